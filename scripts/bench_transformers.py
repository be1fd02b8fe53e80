# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.15.0", "transformers==5.24.0", "gguf", "accelerate", "numpy", "safetensors"]
# ///
"""The forward pass of a model that is trained already, basislab beside transformers: same file, same tokens, in alternating rounds.

    python scripts/bench_transformers.py MODEL [--rounds 3] [--cores 2] [--tokens 2048] [--window 512] [--out FILE.csv]

MODEL is a .gguf file or a directory of Hugging Face, of a model with a language head. A pass goes from tokens to the logits of all
positions, in f32 on all cores; tokens are random, `--window` of them a sequence. Contestants, each in processes of its own:
basislab with the weights in memory as f32, which is what transformers does; basislab as `measure` runs, with each block's weights
read from the file, converted and forgotten (`basislab-from-file`: the whole of a pass, files included); transformers;
transformers with MKL told that the CPU is Intel's (see bench_pytorch.py). Both sides leave out the first pass.

Every 32nd row of logits must agree to 1e-3 of the row's norm, or the script fails. Writes one row per contestant. `ratio` is
basislab's speed (weights in memory) over the contestant's, the median over rounds of the ratio within a round.
"""
import argparse
import importlib.util
import json
import os
import pathlib
import random
import resource
import statistics
import sys
import tempfile
import time

# `python -I` leaves the script's own folder out.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from bench_pytorch import ROOT, Failed, build, cpu_name, full_width, over, run, write

PACKAGES = ["torch", "transformers", "gguf", "accelerate", "numpy", "safetensors"]
EVERY, MOST_APART = 32, 1e-3  # EVERY as in crates/basislab/examples/forward.rs
CONTESTANTS = ["basislab", "basislab-from-file", "transformers", "transformers-full-width"]


def open_model(model):
    """As it lies on this machine."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    path = pathlib.Path(model)
    place = dict(gguf_file=path.name) if path.is_file() else {}
    folder = path.parent if path.is_file() else path
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **place).eval()


def passes(model, tokens, count, threads, logits):
    """The side of transformers."""
    import torch
    from safetensors.torch import save_file

    torch.set_num_threads(threads)
    model, tokens, seconds = open_model(model), torch.tensor(json.loads(pathlib.Path(tokens).read_text())), []
    with torch.inference_mode():
        # Nothing is kept for tokens to come.
        rows = model(tokens, use_cache=False).logits.flatten(0, 1)
        save_file({"logits": rows[::EVERY].contiguous()}, logits)
        del rows
        for _ in range(count):
            start = time.perf_counter()
            model(tokens, use_cache=False)
            seconds.append(time.perf_counter() - start)
    print(json.dumps(dict(seconds=seconds, peak_kib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)))


def one_round(arguments, contestant, folder):
    """Tokens per second, and what was printed."""
    env, count = dict(os.environ, OMP_NUM_THREADS=str(arguments.cores)), str(arguments.passes)
    logits = folder / f"{contestant}.safetensors"
    if contestant.startswith("basislab"):
        weights = "file" if contestant.endswith("file") else "memory"
        command = [arguments.forward, arguments.model, str(arguments.cores), folder / "tokens.json", count, weights, logits]
    else:
        command = [sys.executable, __file__, "--child", arguments.model, folder / "tokens.json", count, str(arguments.cores), logits]
        if contestant.endswith("full-width"):
            env["LD_PRELOAD"] = str(full_width(folder))
    [one] = run(command, arguments.limit, 1, env)
    return arguments.tokens / statistics.median(one["seconds"]), one


def apart(ours, theirs):
    """The largest relative difference of a row of logits."""
    import numpy as np
    from safetensors.numpy import load_file

    ours, theirs = (load_file(file)["logits"].astype(np.float64) for file in (ours, theirs))
    norms = np.linalg.norm(ours - theirs, axis=1) / np.linalg.norm(theirs, axis=1)
    return float(np.nan_to_num(norms, nan=np.inf).max())


def main(arguments):
    arguments.forward = arguments.forward or build("forward")
    seen = {contestant: [] for contestant in CONTESTANTS}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        draw = random.Random(0)
        sequences = [[draw.randrange(arguments.vocabulary) for _ in range(arguments.window)] for _ in range(arguments.tokens // arguments.window)]
        (folder / "tokens.json").write_text(json.dumps(sequences))
        for number in range(arguments.rounds):
            for contestant in CONTESTANTS:
                if isinstance(seen[contestant], list):
                    try:
                        seen[contestant].append(one_round(arguments, contestant, folder))
                    except Failed as failure:
                        seen[contestant] = str(failure)
                print(f"round {number + 1}: {contestant}", file=sys.stderr, flush=True)
        for contestant, all in seen.items():
            failed = isinstance(all, str)
            difference = "" if failed or isinstance(seen["basislab"], str) else apart(folder / "basislab.safetensors", folder / f"{contestant}.safetensors")
            speeds = [speed for speed, _ in all] if not failed else []
            number = lambda of: round(of(speeds)) if speeds else ""
            rows.append(dict(
                date=time.strftime("%Y-%m-%d"), cpu=cpu_name(), cores=arguments.cores, model=pathlib.Path(arguments.model).stem,
                tokens=arguments.tokens, window=arguments.window, contestant=contestant, rounds=len(speeds),
                tokens_per_second=number(statistics.median), slowest=number(min), fastest=number(max),
                ratio=over(seen["basislab"], all), peak_mib="" if failed else round(max(one["peak_kib"] for _, one in all) / 1024),
                logit_difference="" if difference == "" else f"{difference:.1e}",
                failure=all if failed else "logits differ" if difference != "" and difference > MOST_APART else ""))
            print(rows[-1], file=sys.stderr, flush=True)
    write(rows, pathlib.Path(arguments.out))
    print(arguments.out)
    if wrong := [row["contestant"] for row in rows if row["failure"] == "logits differ"]:
        sys.exit(f"logits differ: {', '.join(wrong)}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _, _, model, tokens, count, threads, logits = sys.argv
        passes(model, tokens, int(count), int(threads), logits)
    else:
        for package in PACKAGES:
            if importlib.util.find_spec(package) is None:
                sys.exit(f"needs {package}: pip install {' '.join(PACKAGES)}")
        parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("model", metavar="MODEL")
        parser.add_argument("--rounds", type=int, default=3)
        parser.add_argument("--passes", type=int, default=3, help="of each round, after one that is not counted")
        parser.add_argument("--cores", type=int, default=2)
        parser.add_argument("--tokens", type=int, default=2048)
        parser.add_argument("--window", type=int, default=512, help="tokens per sequence")
        parser.add_argument("--vocabulary", type=int, default=1000, help="tokens are drawn from the first ones")
        parser.add_argument("--forward", help="the example `forward`, already built (default: builds it)")
        parser.add_argument("--limit", type=int, default=900, help="seconds for one round of one contestant")
        parser.add_argument("--out", default=str(ROOT / "results/benchmarks/transformers.csv"))
        main(parser.parse_args())

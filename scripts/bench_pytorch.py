# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.15.0", "numpy", "setuptools", "matplotlib"]
# ///
"""Whole training steps, basislab beside PyTorch: same weights, same tokens, same machine, in alternating rounds.

    python scripts/bench_pytorch.py [--rounds 5] [--cores 2] [--sizes d64 d128] [--out results/benchmarks/cpu.csv]
    python scripts/bench_pytorch.py --architectures all [--precision f32 bf16] [--against torch torch-compile]
    python scripts/bench_pytorch.py --device cuda [--backends wgpu cuda] [--against torch torch-bf16] [--out results/benchmarks/cuda.csv]

A step is batch, forward, loss, backward, clipping, Adam, in f32 (and PyTorch's bf16 autocast); no probes on either side. d64 is
the default experiment's model, run as the laboratory runs it: one process of one thread per core, all at once, their speeds
added. The larger ones are one process on all cores. Contestants, each in processes of its own: basislab; PyTorch eager; torch.compile; eager with MKL told that the CPU is Intel's, so that it uses the full vector
width (a preloaded function; wants a C compiler; on a CPU of Intel's it changes nothing). The first 3 steps are not counted.
Losses must agree to 1e-5 of their size over 20 steps (1e-4 with rotary positions, 1e-2 in bf16, 5e-2 between it and f32), or the script fails. Writes one row
per architecture, size and contestant, and a figure of the default architecture beside the CSV. `ratio` is basislab's speed over the
contestant's, the median over rounds of the ratio within a round. A contestant that fails has a row that says why.

`--architectures` are those of architectures.py: the default model, one for each option of the model, a small Llama.
`--precision bf16` is basislab with `model.compute_dtype=bf16`; the column `precision` is basislab's, whatever the contestant's.
`--precision f64 --against torch-f64 --steps 20` compares nobody's speed: losses that agree to 1e-6 check the function and its gradients.
`gflops_per_core` counts the operations that a step needs (`operations` in architectures.py); `peak_share` divides them by what one
core reaches in a large f32 product of burn's, measured first.

With `--device cuda` one GPU: basislab on each of `--backends`, beside PyTorch eager and compiled, each in f32, TF32 and bf16
autocast; the host waits for the device once at the end, on both sides. Losses must agree to 1e-4 of their size between PyTorch's f32 contestants, and to 1e-2 with all others, whose products may be rounded;
`loss_difference` says how well they did. Memory is what the allocators took. No figure is drawn.
"""
import argparse
import csv
import importlib.util
import itertools
import json
import math
import os
import pathlib
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time

# `python -I` leaves the script's own folder out.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import architectures

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = ["torch", "numpy", "setuptools", "matplotlib"]
LR, CLIP, SKIP, GPU_SKIP, COMPARED = 1e-3, 1.0, 3, 33, 20
# d_model, layers, heads, positions, batch, steps
SIZES = {"d64": (64, 2, 4, 64, 16, 200), "d128": (128, 2, 4, 128, 16, 40), "d256": (256, 4, 4, 128, 16, 20), "d512": (512, 6, 8, 128, 16, 20)}
GPU_SIZES = {"d64": (64, 2, 4, 256, 64, 400), "d256": (256, 4, 4, 256, 64, 200), "d768": (768, 12, 12, 256, 64, 100)}
ONE_PROCESS_PER_CORE = {"d64"}
CPU_CONTESTANTS = ["basislab-rotated", "torch", "torch-compile", "torch-full-width", "torch-bf16"]
MORE_ON_CPU = ["torch-compile-bf16", "torch-f64"]
GPU_CONTESTANTS = [f"{how}{precision}" for how in ("torch", "torch-compile") for precision in ("", "-tf32", "-bf16")]


class Failed(Exception):
    """What a contestant said."""


def read_safetensors(file, device):
    """By hand: a machine with a GPU may have torch alone."""
    import torch

    data = bytearray(pathlib.Path(file).read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    types = {"F32": torch.float32, "I64": torch.int64}
    return {
        name: torch.frombuffer(data[start + about["data_offsets"][0] : start + about["data_offsets"][1]], dtype=types[about["dtype"]])
        .view(about["shape"])
        .to(device)
        for name, about in json.loads(data[8:start]).items()
        if name != "__metadata__"
    }


def train(architecture, shape, file, threads, contestant, device):
    """The PyTorch side."""
    import torch

    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("high" if "tf32" in contestant else "highest")
    d, layers, heads, pos, batch, steps = shape
    p = read_safetensors(file, device)
    tokens = p.pop("tokens")
    dtype = torch.float64 if "f64" in contestant.split("-") else torch.float32
    p = {name: value.to(dtype).requires_grad_() for name, value in p.items()}
    loss_of = architectures.loss_function(architectures.spec(architecture, d, heads), layers, pos, p)
    if "compile" in contestant:
        loss_of = torch.compile(loss_of)
    optimizer = torch.optim.Adam(p.values(), lr=LR, fused=True)
    losses, seconds, waits = [], [], device == "cpu"
    for step, sequences in enumerate(tokens):
        if not waits and step == GPU_SKIP:
            torch.cuda.synchronize()
            begun = time.perf_counter()
        start = time.perf_counter()
        with torch.autocast(device, dtype=torch.bfloat16, enabled="bf16" in contestant):
            loss = loss_of(sequences[:, :-1], sequences[:, 1:])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(p.values(), CLIP)
        optimizer.step()
        losses.append(loss.item() if waits else loss.detach())
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if not waits:
        losses = torch.stack(losses).tolist()
        seconds = [(time.perf_counter() - begun) / (len(losses) - GPU_SKIP)] * len(losses)
        peak = torch.cuda.max_memory_reserved() // 1024
    print(json.dumps(dict(losses=losses, seconds=seconds, peak_kib=peak)))


def child(contestant, architecture, shape, file, threads, device):
    return [sys.executable, __file__, "--child", contestant, architecture, json.dumps(shape), file, str(threads), device]


def keys(architecture, shape):
    """What the example `step` is told: the size and the architecture."""
    d, layers, heads, pos, batch, steps = shape
    size = {
        "model.d_model": d, "model.d_mlp": 4 * d, "model.n_layers": layers, "model.n_heads": heads, "model.n_ctx": pos,
        "train.batch_size": batch, "train.steps": steps,
    }
    of_model = {f"model.{key}": value for key, value in architectures.changes(architecture, d, heads).items()}
    return [f"{key}={str(value).lower()}" for key, value in {**size, **of_model}.items()]


def run(command, limit, workers=1, env=None):
    """What equal processes, all at once, printed last."""
    with tempfile.TemporaryFile("w+") as complaints:
        start = lambda: subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=complaints, text=True)
        running = [start() for _ in range(workers)]
        try:
            printed = [process.communicate(timeout=limit)[0] for process in running]
        except subprocess.TimeoutExpired:
            raise Failed(f"did not end in {limit} seconds") from None
        finally:
            for process in running:
                process.kill()
                process.wait()
        if codes := [process.returncode for process in running if process.returncode]:
            complaints.seek(0)
            lines = [line.strip() for line in complaints if line.strip() and not line.startswith("note:")]
            errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Unsupported)\b", line)]
            raise Failed((errors or lines or [f"exit code {codes[0]}"])[-1][:200])
    return [json.loads(text.splitlines()[-1]) for text in printed]


def basislab(arguments, contestant, architecture, shape, threads):
    """The command of one of basislab's contestants, e.g. `basislab-wgpu-bf16`."""
    _, *how = contestant.split("-")
    arm = "adam-rotated" if "rotated" in how else "adam"
    types = ["model.compute_dtype=bf16"] if "bf16" in how else ["model.param_dtype=f64", "model.compute_dtype=f64"] if "f64" in how else []
    on = [part for backend in arguments.backends if backend in how for part in ("--on", backend)]
    return [arguments.step, arm, str(threads), *keys(architecture, shape), *types, *on]


def on_cpu(arguments, contestant, architecture, size, folder):
    """One round: tokens per second of all processes together, and what the first one printed."""
    shape, cores = shape_of(arguments, size), arguments.cores
    workers, threads = (cores, 1) if size in ONE_PROCESS_PER_CORE else (1, cores)
    env = dict(os.environ, OMP_NUM_THREADS=str(threads))
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "ATEN_CPU_CAPABILITY"):
        env.pop(name, None)
    if contestant.startswith("basislab"):
        command = basislab(arguments, contestant, architecture, shape, threads)
    else:
        command = child(contestant, architecture, shape, folder / "dump.safetensors", threads, "cpu")
        if contestant == "torch-full-width":
            env["LD_PRELOAD"] = str(full_width(folder))
    seen = run(command, arguments.limit, workers, env)
    return sum(shape[3] * shape[4] / statistics.median(one["seconds"][SKIP:]) for one in seen), seen[0]


def on_gpu(arguments, contestant, architecture, size, folder):
    shape = shape_of(arguments, size)
    if contestant.startswith("basislab"):
        command = basislab(arguments, contestant, architecture, shape, os.cpu_count())
    else:
        command = child(contestant, architecture, shape, folder / "dump.safetensors", os.cpu_count(), arguments.device)
    one = run(command, arguments.limit)[0]
    return shape[3] * shape[4] / one["seconds"][-1], one


def shape_of(arguments, size):
    *others, batch, steps = (SIZES if arguments.device == "cpu" else GPU_SIZES)[size]
    return [*others, arguments.batch or batch, arguments.steps or steps]


def full_width(folder):
    """A function to preload, by which MKL takes the CPU for one of Intel's."""
    shim = folder / "shim.so"
    if not shim.exists():
        source = folder / "shim.c"
        source.write_text("int mkl_serv_intel_cpu_true(void) { return 1; }\n")
        try:
            subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, source], check=True)
        except (OSError, subprocess.CalledProcessError):
            raise Failed("needs a C compiler") from None
    return shim


def rounds(count, contestants, one_round):
    """What each contestant did in all rounds; a failed one's message instead."""
    seen = {contestant: [] for contestant in contestants}
    for _ in range(count):
        for contestant in contestants:
            if isinstance(seen[contestant], list):
                try:
                    seen[contestant].append(one_round(contestant))
                except Failed as failure:
                    seen[contestant] = str(failure)
    return seen


def over(ours, theirs):
    """The median over rounds of a ratio of speeds; nothing where one of the two failed."""
    if isinstance(ours, str) or isinstance(theirs, str):
        return ""
    return round(statistics.median(mine / other for (mine, _), (other, _) in zip(ours, theirs)), 3)


def difference(ours, theirs):
    """The largest relative difference of the first losses; nothing where one of the two failed."""
    if isinstance(ours, str) or isinstance(theirs, str):
        return ""
    pairs = list(zip(ours[0][1]["losses"][:COMPARED], theirs[0][1]["losses"]))
    return max(abs(a - b) / abs(a) for a, b in pairs) if all(map(math.isfinite, sum(pairs, ()))) else math.inf


def row(about, contestant, all, apart, most, **more):
    """What a contestant did in all rounds. Its losses may be `most` away."""
    failed = isinstance(all, str)
    speeds, peaks = ([], []) if failed else ([speed for speed, _ in all], [one["peak_kib"] or 0 for _, one in all])
    number = lambda value: "" if failed else round(value)
    apart_from = "" if apart == "" else f"{apart:.1e}"
    failure = all if failed else "losses differ" if apart != "" and not apart <= most else ""
    return dict(
        about, contestant=contestant, rounds=len(speeds), tokens_per_second=number(statistics.median(speeds or [0])),
        slowest=number(min(speeds, default=0)), fastest=number(max(speeds, default=0)), **more,
        peak_mib=number(max(peaks, default=0) / 1024), loss_difference=apart_from, failure=failure)


def allowed(mine, contestant, architecture):
    """How far the losses may be apart."""
    if contestant == "basislab-rotated":
        return sys.float_info.max  # in a rotated basis Adam is another optimizer: its losses are finite, no more
    if "bf16" in mine + contestant:
        # Between types a model whose first steps are large is further away than two that round alike.
        return 1e-2 if "bf16" in mine and "bf16" in contestant else 5e-2
    if mine.endswith("-f64") and contestant in (mine, "torch-f64"):
        return 1e-6
    # With rotary positions alone queries and keys start with gradients near 0, which Adam divides by their own size: rounding
    # grows. Both sides are as far from f64.
    return 1e-4 if "positions.kind" in architectures.ARCHITECTURES[architecture] else 1e-5


def cpu_rows(arguments, about, seen, ours, needed):
    for precision, [mine] in ours.items():
        for contestant in [mine, *arguments.against]:
            all = seen[contestant]
            most = allowed(mine, contestant, architecture=about["architecture"])
            ratio = over(seen[mine], all)
            speed = 0 if isinstance(all, str) else statistics.median(speed for speed, _ in all)
            used = speed * needed / arguments.cores / 1e9
            yield row(
                about, contestant, all, difference(seen[mine], all), most, precision=precision, ratio=ratio and round(ratio, 2),
                gflops_per_core=round(used, 1) or "", peak_share="" if "bf16" in contestant else round(used / arguments.peak, 3) or "")


def gpu_rows(arguments, about, seen, ours, needed):
    precisions = {name: precision for precision, names in ours.items() for name in names}
    for contestant, all in seen.items():
        most = 1e-4 if contestant in ("torch", "torch-compile") else 1e-2
        yield row(
            about, contestant, all, difference(seen["torch"], all), most, precision=precisions.get(contestant, ""),
            over_torch=over(all, seen["torch"]), over_torch_compile=over(all, seen.get("torch-compile", "")))


def main(arguments):
    on_a_cpu = arguments.device == "cpu"
    if on_a_cpu:
        arguments.peak = run([arguments.step, "peak", "1"], arguments.limit)[0]["gflops"]
        print(f"one core multiplies two large f32 matrices at {arguments.peak:.0f} GFLOP/s", file=sys.stderr)
        one_round, rows_of, machine = on_cpu, cpu_rows, dict(cpu=cpu_name(), cores=arguments.cores)
    else:
        one_round, rows_of, machine = on_gpu, gpu_rows, dict(device=arguments.name)
    names = ["basislab"] if on_a_cpu else [f"basislab-{backend}" for backend in arguments.backends]
    ours = {precision: [name + ("" if precision == "f32" else f"-{precision}") for name in names] for precision in arguments.precision}
    rows, out = [], pathlib.Path(arguments.out)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for size, architecture in itertools.product(arguments.sizes, arguments.architectures):
            shape = shape_of(arguments, size)
            d, layers, heads, pos, batch, _ = shape
            dump = [arguments.step, "adam", "1", *keys(architecture, shape), "--dump", folder / "dump.safetensors"]
            subprocess.run(dump, check=True)
            contestants = [*itertools.chain(*ours.values()), *arguments.against]
            seen = rounds(arguments.rounds, contestants, lambda name: one_round(arguments, name, architecture, size, folder))
            about = dict(
                date=time.strftime("%Y-%m-%d"), **machine, architecture=architecture, size=size, d_model=d, n_layers=layers, n_ctx=pos,
                batch_size=batch)
            needed = architectures.operations(architectures.spec(architecture, d, heads), layers, pos)
            for new in rows_of(arguments, about, seen, ours, needed):
                print(size, architecture, {key: value for key, value in new.items() if value != "" and key not in about}, file=sys.stderr, flush=True)
                rows.append(new)
            # What was measured stays if a later one is interrupted.
            write(rows, out)
    if on_a_cpu:
        draw(rows, out.with_suffix(".svg"))
    print(out)
    if wrong := [new for new in rows if new["failure"] == "losses differ"]:
        sys.exit("\n".join("{architecture} {size} {contestant}: losses differ by {loss_difference}".format(**new) for new in wrong))


def write(rows, out):
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def build(example, features=()):
    """An example of basislab, built if it is not."""
    features = ["--no-default-features", "--features", ",".join(features)] if features else []
    subprocess.run(["cargo", "build", "--release", "--locked", "-p", "basislab", *features, "--example", example], cwd=ROOT, check=True)
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/examples" / example


def cpu_name():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines() if os.path.exists("/proc/cpuinfo") else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    flags = next((line for line in lines if line.startswith("flags")), "")
    width = "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else "no AVX2"
    return f"{name} ({width})"


def draw(rows, path):
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams["svg.hashsalt"] = "basislab"
    shown = ["basislab", "basislab-bf16", "torch", "torch-compile", "torch-full-width", "torch-bf16"]
    kept = lambda row: row["architecture"] == "default" and row["contestant"] in shown
    rows = [row for row in rows if kept(row) and row["tokens_per_second"]]
    shown = [contestant for contestant in shown if any(row["contestant"] == contestant for row in rows)]
    if not {"basislab", "torch"} <= {row["contestant"] for row in rows}:
        return
    layers = {row["size"]: row["n_layers"] for row in rows}
    sizes = list(dict.fromkeys(row["size"] for row in rows))
    figure, axes = plt.subplots(figsize=(8, 3.6))
    for i, contestant in enumerate(shown):
        of = {row["size"]: row for row in rows if row["contestant"] == contestant}
        eager = {row["size"]: row["tokens_per_second"] for row in rows if row["contestant"] == "torch"}
        heights = [of[size]["tokens_per_second"] / eager[size] if size in of and size in eager else 0 for size in sizes]
        axes.bar([x + 0.16 * (i - 2) for x in range(len(sizes))], heights, 0.15, label=contestant, color=f"C{i}")
    axes.axhline(1, color="black", linewidth=0.6)
    axes.set_xticks(range(len(sizes)), [f"{size}, {layers[size]} layers" for size in sizes])
    axes.set_ylabel("tokens/s, PyTorch eager = 1")
    axes.set_title(f"Whole training steps on {rows[0]['cores']} cores of {rows[0]['cpu']}", fontsize=10)
    axes.legend(fontsize=8, ncols=3)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _, _, contestant, architecture, shape, file, threads, device = sys.argv
        train(architecture, json.loads(shape), file, int(threads), contestant, device)
    else:
        parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--rounds", type=int, default=5)
        parser.add_argument("--cores", type=int, default=2)
        parser.add_argument("--sizes", nargs="+", help=f"on a CPU of {', '.join(SIZES)}; on a GPU of {', '.join(GPU_SIZES)}")
        parser.add_argument("--architectures", nargs="+", default=["default"], help=f"all, or of {', '.join(architectures.ARCHITECTURES)}")
        parser.add_argument("--precision", nargs="+", default=["f32"], choices=["f32", "bf16", "f64"], help="basislab's")
        parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="cpu, or the first GPU that CUDA sees")
        parser.add_argument("--backends", nargs="+", default=["wgpu"], help="basislab's, on a GPU: wgpu, cuda")
        parser.add_argument("--batch", type=int, help="sequences per step; on a GPU as many as fill it")
        parser.add_argument("--steps", type=int, help=f"at least {COMPARED}, on a GPU {GPU_SKIP + 1}")
        parser.add_argument("--against", nargs="+", help=f"on a CPU of {', '.join(CPU_CONTESTANTS)}, and if asked for {', '.join(MORE_ON_CPU)}; on a GPU of {', '.join(GPU_CONTESTANTS)}, torch always")
        parser.add_argument("--step", help="the example `step`, already built (default: builds it)")
        parser.add_argument("--limit", type=int, default=900, help="seconds for one round of one contestant")
        parser.add_argument("--out", help="default: results/benchmarks/DEVICE.csv, or DEVICE-architectures.csv")
        arguments = parser.parse_args()
        on_a_cpu = arguments.device == "cpu"
        if arguments.architectures == ["all"]:
            arguments.architectures = list(architectures.ARCHITECTURES)
        sizes, contestants = (SIZES, CPU_CONTESTANTS) if on_a_cpu else (GPU_SIZES, GPU_CONTESTANTS)
        arguments.sizes, arguments.against = arguments.sizes or list(sizes), arguments.against or contestants
        more = MORE_ON_CPU if on_a_cpu else []
        known = {"sizes": sizes, "architectures": architectures.ARCHITECTURES, "against": [*contestants, *more]}
        for name, known in known.items():
            if unknown := [one for one in getattr(arguments, name) if one not in known]:
                parser.error(f"--{name}: found {unknown[0]}, expected one of {', '.join(known)}")
        # Nothing is drawn of a GPU.
        for package in PACKAGES if on_a_cpu else ["torch"]:
            if importlib.util.find_spec(package) is None:
                sys.exit(f"needs {package}: pip install {' '.join(PACKAGES)}")
        name = arguments.device + ("" if arguments.architectures == ["default"] else "-architectures")
        arguments.out = arguments.out or str(ROOT / f"results/benchmarks/{name}.csv")
        if not on_a_cpu:
            import torch

            arguments.name = torch.cuda.get_device_name()
            arguments.against = list(dict.fromkeys(["torch", *arguments.against]))
        arguments.step = arguments.step or build("step", () if on_a_cpu else ("flex", "tuned", *arguments.backends))
        main(arguments)

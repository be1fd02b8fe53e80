# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.15.0", "numpy", "setuptools", "safetensors", "matplotlib"]
# ///
"""Whole training steps, basislab beside PyTorch: same weights, same tokens, same machine, in alternating rounds.

    python scripts/bench_pytorch.py [--rounds 5] [--cores 2] [--sizes d64 d128] [--out results/benchmarks/cpu.csv]
    python scripts/bench_pytorch.py --device cuda [--backends wgpu cuda] [--against torch torch-bf16] [--out results/benchmarks/cuda.csv]

A step is batch, forward, loss, backward, clipping, Adam, in fp32 (and PyTorch's bf16 autocast); no probes on either side. d64 is
the default experiment's model, run as the laboratory runs it: one process of one thread per core, all at once, their speeds
added. The larger ones are one process on all cores. Contestants, each in processes of its own: basislab; PyTorch eager; torch.compile; eager with MKL told that the CPU is Intel's, so that it uses the full vector
width (a preloaded function; wants a C compiler; on a CPU of Intel's it changes nothing). The first 3 steps are not counted.
Losses must agree to 1e-5 of their size over 20 steps, or the script fails. Writes one row per size and contestant, and a figure
beside the CSV. `ratio` is basislab's speed over the contestant's, the median over rounds of the ratio within a round.

With `--device cuda` one GPU: basislab on each of `--backends`, beside PyTorch eager and compiled, each in fp32, TF32 and bf16
autocast; the host waits for the device once at the end, on both sides. Losses must agree to 1e-4 of their size between PyTorch's fp32 contestants, and to 1e-2 with all others, whose products may be rounded;
`loss_difference` says how well they did. Memory is what the allocators took. No figure is drawn.
"""
import argparse
import csv
import importlib.util
import json
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = ["torch", "numpy", "setuptools", "safetensors", "matplotlib"]
LR, CLIP, EPS, SKIP, GPU_SKIP = 1e-3, 1.0, 1e-5, 3, 33
# d_model, layers, heads, positions, batch, steps
SIZES = {"d64": (64, 2, 4, 64, 16, 200), "d128": (128, 2, 4, 128, 16, 40), "d256": (256, 4, 4, 128, 16, 20), "d512": (512, 6, 8, 128, 16, 20)}
GPU_SIZES = {"d64": (64, 2, 4, 256, 64, 400), "d256": (256, 4, 4, 256, 64, 200), "d768": (768, 12, 12, 256, 64, 100)}
ONE_PROCESS_PER_CORE = {"d64"}
GPU_CONTESTANTS = [f"{how}{precision}" for how in ("torch", "torch-compile") for precision in ("", "-tf32", "-bf16")]
CONTESTANTS = ["basislab", "basislab-rotated", "torch", "torch-compile", "torch-full-width", "torch-bf16"]


def train(shape, file, threads, contestant, device):
    """The PyTorch side, written from the formulas; matrices are stored [in, out]."""
    import torch
    import torch.nn.functional as F
    from safetensors.torch import load_file

    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("high" if "tf32" in contestant else "highest")
    d, layers, heads, pos, batch, steps = shape
    p = load_file(file, device=device)
    tokens = p.pop("tokens")
    p = {name: value.requires_grad_() for name, value in p.items()}
    norm = lambda name, x: F.rms_norm(x, (d,), eps=EPS) * p[f"{name}.gain"]

    def loss_of(x, targets):
        x = F.embedding(x, p["w_e"]) + p["w_pos"]
        for i in range(layers):
            w = lambda name: p[f"blocks.{i}.{name}"]
            y = norm(f"blocks.{i}.norm_1", x)
            q, k, v = ((y @ w(f"w_{n}")).view(batch, pos, heads, d // heads).transpose(1, 2) for n in "qkv")
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + mixed.transpose(1, 2).reshape(batch, pos, d) @ w("w_o")
            x = x + F.gelu(norm(f"blocks.{i}.norm_2", x) @ w("w_in")) @ w("w_out")
        return F.cross_entropy((norm("norm", x) @ p["w_u"]).flatten(0, 1), targets.flatten())

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


def run(contestant, size, folder, cores):
    """One round of one contestant: tokens per second of all its processes together, and what the first one printed."""
    workers, threads = (cores, 1) if size in ONE_PROCESS_PER_CORE else (1, cores)
    d, layers, heads, pos, batch, steps = map(str, SIZES[size])
    env = dict(os.environ, OMP_NUM_THREADS=str(threads))
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "ATEN_CPU_CAPABILITY"):
        env.pop(name, None)
    if contestant.startswith("basislab"):
        arm = "adam-rotated" if contestant == "basislab-rotated" else "adam"
        command = [ROOT / "target/release/examples/step", d, layers, heads, pos, batch, steps, str(threads), arm]
    else:
        command = child(contestant, SIZES[size], folder / f"{size}.safetensors", threads, "cpu")
        if contestant == "torch-full-width":
            env["LD_PRELOAD"] = str(folder / "shim.so")
    running = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(workers)]
    printed = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        sys.exit(f"{contestant} at {size} failed")
    seen = [json.loads(text.splitlines()[-1]) for text in printed]
    step = SIZES[size][3] * SIZES[size][4]
    return sum(step / statistics.median(one["seconds"][SKIP:]) for one in seen), seen[0]


def child(contestant, shape, file, threads, device):
    return [sys.executable, __file__, "--child", contestant, json.dumps(shape), file, str(threads), device]


def on_gpu(arguments):
    step = arguments.step
    if not step:
        features = ",".join(["flex", "tuned", *arguments.backends])
        build = ["cargo", "build", "--release", "--locked", "-p", "basislab", "--no-default-features", "--features", features]
        subprocess.run([*build, "--example", "step"], cwd=ROOT, check=True)
        step = ROOT / "target/release/examples/step"
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size in arguments.sizes:
            d, layers, heads, pos, batch, steps = GPU_SIZES[size]
            shape = [d, layers, heads, pos, arguments.batch or batch, steps]
            numbers = [*map(str, shape), str(os.cpu_count()), "adam"]
            file = pathlib.Path(folder) / f"{size}.safetensors"
            subprocess.run([step, *numbers, file], check=True)
            ours = {f"basislab-{backend}": [step, *numbers, f"gpu:{backend}"] for backend in arguments.backends}
            theirs = {kind: child(kind, shape, file, os.cpu_count(), arguments.device) for kind in arguments.against}
            seen = {contestant: [] for contestant in [*ours, *theirs]}
            for _ in range(arguments.rounds):
                for contestant, command in [*ours.items(), *theirs.items()]:
                    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                    one = json.loads(done.stdout.splitlines()[-1])
                    seen[contestant].append((shape[3] * shape[4] / one["seconds"][-1], one))
            reference = seen["torch"][0][1]["losses"][:20]
            for contestant, all in seen.items():
                difference = max(abs(a - b) / a for a, b in zip(reference, all[0][1]["losses"][:20]))
                if not difference <= (1e-4 if contestant in ("torch", "torch-compile") else 1e-2):
                    sys.exit(f"{size} {contestant}: losses differ by {difference:.1e}")
                over = lambda name: round(statistics.median(mine / speed for (speed, _), (mine, _) in zip(seen[name], all)), 3)
                peaks = [one["peak_kib"] for _, one in all if one["peak_kib"]]
                rows.append(dict(
                    date=time.strftime("%Y-%m-%d"), device=arguments.name, size=size, d_model=d, n_layers=layers, n_ctx=pos,
                    batch_size=shape[4], contestant=contestant, rounds=len(all),
                    tokens_per_second=round(statistics.median(speed for speed, _ in all)),
                    over_torch=over("torch"), over_torch_compile=over("torch-compile") if "torch-compile" in seen else "", peak_mib=round(max(peaks) / 1024) if peaks else "",
                    loss_difference=f"{difference:.1e}"))
                print(rows[-1], file=sys.stderr, flush=True)
    write(rows, pathlib.Path(arguments.out))


def write(rows, out):
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(out)


def cpu_name():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines() if os.path.exists("/proc/cpuinfo") else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    flags = next((line for line in lines if line.startswith("flags")), "")
    width = "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else "no AVX2"
    return f"{name} ({width})"


def main(arguments):
    subprocess.run(["cargo", "build", "--release", "--locked", "-p", "basislab", "--example", "step"], cwd=ROOT, check=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "shim.c").write_text("int mkl_serv_intel_cpu_true(void) { return 1; }\n")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / "shim.so", folder / "shim.c"], check=True)
        for size in arguments.sizes:
            shape = list(map(str, SIZES[size]))
            command = [ROOT / "target/release/examples/step", *shape, "1", "adam", folder / f"{size}.safetensors"]
            subprocess.run(command, check=True)
            seen = {contestant: [] for contestant in CONTESTANTS}
            for _ in range(arguments.rounds):
                for contestant in CONTESTANTS:
                    seen[contestant].append(run(contestant, size, folder, arguments.cores))
            d, layers, heads, pos, batch, steps = SIZES[size]
            ours = seen["basislab"][0][1]["losses"][:20]
            for contestant, all in seen.items():
                speeds = [speed for speed, _ in all]
                ratio = statistics.median(mine / speed for (mine, _), speed in zip(seen["basislab"], speeds))
                difference = max(abs(a - b) / a for a, b in zip(ours, all[0][1]["losses"][:20]))
                if difference > 1e-5 and contestant in ("torch", "torch-compile", "torch-full-width"):
                    sys.exit(f"{size} {contestant}: losses differ by {difference:.1e}")
                rows.append(dict(
                    date=time.strftime("%Y-%m-%d"), cpu=cpu_name(), cores=arguments.cores, size=size, d_model=d, n_layers=layers,
                    n_ctx=pos, batch_size=batch, contestant=contestant, precision="bf16 autocast" if "bf16" in contestant else "fp32",
                    rounds=len(all), tokens_per_second=round(statistics.median(speeds)), slowest=round(min(speeds)),
                    fastest=round(max(speeds)), ratio=round(ratio, 2), peak_mib=round(max(one["peak_kib"] for _, one in all) / 1024),
                    loss_difference=f"{difference:.1e}"))
                print(rows[-1], file=sys.stderr, flush=True)
    out = pathlib.Path(arguments.out)
    draw(rows, out.with_suffix(".svg"))
    write(rows, out)


def draw(rows, path):
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams["svg.hashsalt"] = "basislab"
    shown = ["basislab", "torch", "torch-compile", "torch-full-width", "torch-bf16"]
    sizes = list(dict.fromkeys(row["size"] for row in rows))
    figure, axes = plt.subplots(figsize=(8, 3.6))
    for i, contestant in enumerate(shown):
        of = {row["size"]: row for row in rows if row["contestant"] == contestant}
        eager = {row["size"]: row["tokens_per_second"] for row in rows if row["contestant"] == "torch"}
        heights = [of[size]["tokens_per_second"] / eager[size] for size in sizes]
        axes.bar([x + 0.16 * (i - 2) for x in range(len(sizes))], heights, 0.15, label=contestant, color=f"C{i}")
    axes.axhline(1, color="black", linewidth=0.6)
    axes.set_xticks(range(len(sizes)), [f"{row['size']}, {row['n_layers']} layers" for size in sizes for row in rows[:: len(CONTESTANTS)] if row["size"] == size])
    axes.set_ylabel("tokens/s, PyTorch eager = 1")
    axes.set_title(f"Whole training steps on {rows[0]['cores']} cores of {rows[0]['cpu']}", fontsize=10)
    axes.legend(fontsize=8, ncols=3)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _, _, contestant, shape, file, threads, device = sys.argv
        train(json.loads(shape), file, int(threads), contestant, device)
    else:
        parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--rounds", type=int, default=5)
        parser.add_argument("--cores", type=int, default=2)
        parser.add_argument("--sizes", nargs="+", help=f"on a CPU of {', '.join(SIZES)}; on a GPU of {', '.join(GPU_SIZES)}")
        parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="cpu, or the first GPU that CUDA sees")
        parser.add_argument("--backends", nargs="+", default=["wgpu"], help="basislab's, on a GPU: wgpu, cuda")
        parser.add_argument("--batch", type=int, help="sequences per step on a GPU: as many as fill it")
        parser.add_argument("--against", nargs="+", default=GPU_CONTESTANTS, choices=GPU_CONTESTANTS, help="on a GPU: PyTorch's; torch is always one of them")
        parser.add_argument("--step", help="on a GPU: the example `step`, already built (default: builds it)")
        parser.add_argument("--out", help="default: results/benchmarks/DEVICE.csv")
        arguments = parser.parse_args()
        known = SIZES if arguments.device == "cpu" else GPU_SIZES
        arguments.sizes = arguments.sizes or list(known)
        if unknown := [size for size in arguments.sizes if size not in known]:
            parser.error(f"--sizes: found {unknown[0]}, expected one of {', '.join(known)}")
        for package in PACKAGES:
            if importlib.util.find_spec(package) is None:
                sys.exit(f"needs {package}: pip install {' '.join(PACKAGES)}")
        arguments.out = arguments.out or str(ROOT / f"results/benchmarks/{arguments.device}.csv")
        if arguments.device == "cpu":
            main(arguments)
        else:
            import torch

            arguments.name = torch.cuda.get_device_name()
            arguments.against = list(dict.fromkeys(["torch", *arguments.against]))
            on_gpu(arguments)

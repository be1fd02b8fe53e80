# /// script
# requires-python = ">=3.10"
# dependencies = ["pandas>=2.2", "polars", "tensorboard"]
# ///
"""Checks the exports of directories with the programs that they are for: polars, TensorBoard's own reader, zipfile.

    python scripts/check_exports.py RUN_DIR ...             # BASISLAB says which program, see docs/python.md
    python scripts/check_exports.py --torch RUN_DIR ...     # weights too, with PyTorch and transformers

With `--torch`, `load_torch` and, where there is an architecture for it, `transformers` must find the loss of `evals.csv` to 1e-5, of one seed
of each arm.
"""
import hashlib
import math
import pathlib
import sys
import tempfile
import zipfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "python"))
try:
    import numpy as np
    import pandas  # noqa: F401, what load_run needs
    import polars
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    import basislab
except ModuleNotFoundError as error:
    sys.exit(f"needs {error.name.split('.')[0]}: pip install pandas polars tensorboard")

TYPES = {"category": polars.String, "string": polars.String, "Int64": polars.Int64, "float64": polars.Float64,
         "boolean": polars.Boolean}


def parquet(run, tables, out):
    """Every cell of every table, and the types."""
    basislab.run("export", run, "--to", "parquet", "--out", out)
    for name, expected in tables.items():
        found = polars.read_parquet(out / f"{name}.parquet")
        assert found.columns == list(expected.columns), f"{name}: {found.columns}"
        assert found.height == len(expected), f"{name}: {found.height} rows, expected {len(expected)}"
        for column in found.columns:
            series = expected[column]
            wanted = TYPES[series.dtype.name]
            assert found.schema[column] == wanted, f"{name}.{column}: {found.schema[column]}, expected {wanted}"
            theirs = [None if value is pandas.NA or value != value else value for value in series.astype(object)]
            assert found[column].to_list() == theirs, f"{name}.{column} differs"


def events(run, tables, out):
    """Every scalar of every run, as TensorBoard reads it."""
    basislab.run("export", run, "--to", "tensorboard", "--out", out)
    count = 0
    for (arm, seed), rows in tables["evals"].groupby(["arm", "seed"], observed=True):
        read = EventAccumulator(str(out / arm / str(seed)), size_guidance={"scalars": 0}).Reload()
        scalars = {tag: [(event.step, event.value) for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]}
        expect(scalars["held-out/loss"], rows, "loss")
        steps = of_run(tables["steps"], arm, seed)
        for tag, column in (("loss", "train_loss"), ("grad_norm", "grad_norm"), ("lr", "lr")):
            expect(scalars[f"train/{tag}"], steps, column)
        residual = of_run(tables["residual"], arm, seed).copy()
        residual["basis"] = residual["basis"].astype(str).str.replace(r"random:\d+", "random", regex=True)
        keys = ["metric", "site", "tokens", "basis"]
        for key, rows in residual.groupby(keys, observed=True):
            means = rows.groupby("step", as_index=False)["value"].mean()
            expect(scalars.get("/".join(map(str, key)), []), means, "value")
        count += len(scalars)
    return count


def of_run(table, arm, seed):
    return table[(table["arm"] == arm) & (table["seed"] == seed)]


def expect(found, rows, column):
    rows = rows[rows[column].notna()]
    expected = list(zip(rows["step"].astype(int), rows[column].astype(float)))
    same = [step for step, _ in found] == [step for step, _ in expected]
    assert same, f"{column}: {len(found)} events, expected {len(expected)}"
    for (step, value), (_, wanted) in zip(found, expected):
        assert math.isclose(value, np.float32(wanted), rel_tol=1e-6), f"{column} at step {step}: {value}, expected {wanted}"


def bundle(run, folder):
    """Its checksums, and the report of what it unpacks into."""
    path = folder / "run.zip"
    basislab.run("export", run, "--to", "bundle", "--out", path)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        archive.extractall(folder)
    inner = folder / pathlib.Path(run).resolve().name
    for line in (inner / "BUNDLE_SHA256SUMS").read_text(encoding="utf-8").splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((inner / name).read_bytes()).hexdigest() == digest, name
    assert basislab.run("report", inner).splitlines()[:3] == basislab.run("report", run).splitlines()[:3]


def models(run, tables, folder):
    """Losses by PyTorch, of `load_torch` and of `transformers`, and activations that are the stream."""
    import torch
    import transformers

    evals = tables["evals"]
    for arm, rows in evals.groupby("arm", observed=True):
        seed = int(rows["seed"].iloc[0])
        if not (pathlib.Path(run) / "parts" / arm / str(seed) / "checkpoints").is_dir():
            continue
        wanted = float(rows[rows["seed"] == seed]["loss"].iloc[-1])
        model = basislab.load_torch(run, arm, seed)
        # Weights of 16 bits are widened, and what is between them is not rounded any more.
        near = 1e-5 if model.spec["compute_dtype"] == "f32" else 2e-2
        assert abs(model.loss() - wanted) < near, f"{arm}: {model.loss()}, expected {wanted}"
        tokens = model.held_out[:2, :-1]
        seen = model.activations(tokens)
        sums = seen["embed"] + sum(seen[f"blocks.0.{branch}"] for branch in ("attn_out", "mlp_out"))
        if model.spec.get("norm_place", "pre") == "pre":
            assert torch.allclose(sums, seen["blocks.0.resid_post"], atol=1e-5)
        said = model.generate(tokens[0, :4].tolist(), 8, seed=1)
        assert len(said) == 12 and said == model.generate(tokens[0, :4].tolist(), 8, seed=1) and model.decode(said)
        card = folder / f"{arm}-card"
        try:
            basislab.run("export", run, "--to", "model-card", "--arm", arm, "--seed", str(seed), "--out", card)
        except RuntimeError as error:
            print(f"{arm}: loss {wanted:.6f} by load_torch; {error}")
            continue
        kind = getattr(transformers, transformers.AutoConfig.from_pretrained(card).architectures[0])
        theirs, about = kind.from_pretrained(card, output_loading_info=True)
        assert not any(about.values()), about
        tokens = torch.from_numpy(np.load(card / "held_out_tokens.npy")).long()
        with torch.no_grad():
            logits = theirs.eval()(tokens[:, :-1]).logits
        loss = float(torch.nn.functional.cross_entropy(logits.flatten(0, 1).double(), tokens[:, 1:].flatten()))
        assert abs(loss - wanted) < near, f"{arm}: {loss} by {kind.__name__}, expected {wanted}"
        assert torch.allclose(logits[:2], model(tokens[:2, :-1]), atol=1e-4)
        print(f"{arm}: loss {wanted:.6f} by load_torch and {kind.__name__}")


def main():
    runs = [run for run in sys.argv[1:] if run != "--torch"]
    if not runs:
        sys.exit("usage: python check_exports.py [--torch] RUN_DIR ...")
    for run in runs:
        tables = basislab.load_run(run)
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            parquet(run, tables, folder / "parquet")
            scalars = events(run, tables, folder / "events")
            bundle(run, folder)
            print(f"{run}: {len(tables)} tables in Parquet, {scalars} scalars in event files, a bundle")
            if "--torch" in sys.argv:
                models(run, tables, folder)


main()

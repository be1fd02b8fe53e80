# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.4.6"]
# ///
"""Writes tests/parity/quantize.json: round-to-nearest quantization and Hadamard rotations as NumPy computes them.

Every value comes from the definition, group by group, never from basislab's code. Run again with

    python scripts/quantize_fixture.py

Numbers are float32, written with as many digits as tell them apart.
"""
import json
import pathlib
import sys

try:
    import numpy as np
except ModuleNotFoundError as error:
    sys.exit(f"needs {error.name}: pip install numpy")

# Groups of 32 and of 128 both have a rest.
ROWS, COLUMNS = 140, 3
LEVELS = {"int8": 127, "int4": 7}
GRANULARITIES = ["tensor", "channel", "token", "group-32", "group-128"]


def matrix():
    """Columns of very different size; ties and zeros in both types."""
    x = np.random.default_rng(20261127).normal(size=(ROWS, COLUMNS)) * [1, 300, 0.01]
    x[5, 1] = 90_000  # beyond float16
    x[32:64, 2] = 0
    x[70] = 0
    # Scales of 1: ties in groups of 32 of the first column, in a token, and in a kept row.
    x[96:101, 0] = [127, 0.5, 1.5, -2.5, 126.5]
    x[128:133, 0] = [-7, 0.5, 2.5, -1.5, 6.5]
    x[80] = [7, 2.5, -0.5]
    x[139] = [3e-6, 1 + 2.0**-11, 2049]
    return x.astype(np.float32)


def groups(granularity):
    """The parts of the matrix that share a scale."""
    rows, columns = range(ROWS), range(COLUMNS)
    if granularity == "tensor":
        return [np.s_[:, :]]
    if granularity == "channel":
        return [np.s_[:, column] for column in columns]
    if granularity == "token":
        return [np.s_[row, :] for row in rows]
    size = int(granularity.removeprefix("group-"))
    return [np.s_[first : first + size, column] for first in rows[::size] for column in columns]


def quantized(x, largest, granularity, kept):
    """The matrix with its kept part as float16."""
    half = np.clip(x, -65504, 65504).astype(np.float16).astype(np.float32)
    out, counted = np.empty_like(x), np.ones(x.shape, bool)
    counted[kept] = False
    for group in groups(granularity):
        scale = np.max(np.abs(x[group]), where=counted[group], initial=0) / np.float32(largest)
        codes = np.clip(np.rint(x[group] / scale), -largest, largest) if scale > 0 else np.zeros_like(x[group])
        out[group] = codes * scale
    out[kept] = half[kept]
    assert out.dtype == np.float32
    return out


def hadamard(d):
    """Sylvester's matrix by Kronecker products, block-diagonal, over the root of the block's width; float64."""
    block, width = np.ones((1, 1)), 1
    while d % (2 * width) == 0:
        block, width = np.kron([[1, 1], [1, -1]], block), 2 * width
    return np.kron(np.eye(d // width), block) / np.sqrt(width)


def rotation(d):
    rng = np.random.default_rng(d)
    x, signs = rng.normal(size=(2, d)).astype(np.float32), rng.choice([-1.0, 1.0], size=d)
    rotated = (x * signs) @ hadamard(d).T
    return {"d": d, "values": plain(x), "signs": plain(signs), "rotated": plain(rotated)}


def case(x, name, granularity, kept=None):
    axis, dims = kept or ("rows", [])
    out = quantized(x, LEVELS[name], granularity, np.s_[dims] if axis == "rows" else np.s_[:, dims])
    wide = x.astype(np.float64)
    error = np.linalg.norm(out - wide) / np.linalg.norm(wide)
    return {"levels": name, "granularity": granularity, "kept": kept, "values": plain(out), "error": error}


def plain(x):
    return [float(str(value)) for value in np.asarray(x, np.float32).ravel()]


def main():
    x = matrix()
    cases = [case(x, name, granularity) for name in LEVELS for granularity in GRANULARITIES]
    for kept in (("rows", [0, 33, 139]), ("columns", [1])):
        cases += [case(x, "int8", granularity, kept) for granularity in ("tensor", "group-32")]
    fixture = {
        "written_by": "scripts/quantize_fixture.py",
        "versions": {"numpy": np.__version__},
        "columns": COLUMNS,
        "values": plain(x),
        "cases": cases,
        "rotations": [rotation(d) for d in (1, 7, 8, 12, 48, 64)],
    }
    path = pathlib.Path(__file__).resolve().parent.parent / "tests" / "parity" / "quantize.json"
    # One line per case.
    text = json.dumps(fixture).replace('{"levels"', '\n{"levels"').replace('{"d"', '\n{"d"')
    path.write_text(text + "\n")


if __name__ == "__main__":
    main()

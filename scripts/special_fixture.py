# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.4.6"]
# ///
"""Writes tests/parity/special.json: dimensions that stand out, largest values and dominant tokens as NumPy computes them.

Everything follows from the definitions by sorting whole arrays, never from basislab's code. Run again with

    python scripts/special_fixture.py

Activations are multiples of 1/256, so that their decimals in the file are exact.
"""
import json
import pathlib
import sys

try:
    import numpy as np
except ModuleNotFoundError as error:
    sys.exit(f"needs {error.name}: pip install numpy")

SEQUENCES, N_CTX, D_MODEL, COUNT, THRESHOLD = 3, 7, 10, 4, 1.3


def activations():
    """Three large dimensions, a first token that holds nearly everything, and another large token."""
    x = np.random.default_rng(20261127).normal(size=(SEQUENCES * N_CTX, D_MODEL))
    x[:, 2] *= 9
    x[:, 5] += 4
    x[:, 8] -= 2
    x[N_CTX] *= 300
    x[2 * N_CTX + 3] *= 20
    return np.round(x * 256) / 256


def groups(tokens, sizes):
    """The COUNT largest among first tokens, then among the others."""
    order = np.argsort(-sizes, kind="stable")
    first = tokens[order] % N_CTX == 0
    return np.concatenate([order[first][:COUNT], order[~first][:COUNT]])


def main():
    x = activations()
    token = np.arange(len(x))
    first = token % N_CTX == 0
    scaled = x / np.sqrt(np.mean(x**2, axis=1, keepdims=True))
    size = np.sqrt(np.mean(scaled**2, axis=0))
    ratio = size / np.median(size)
    special = [int(dim) for dim in np.argsort(-size) if ratio[dim] > THRESHOLD]
    at = groups(np.repeat(token, D_MODEL), np.abs(x).ravel())
    squares = np.sum(x**2, axis=1)
    most = groups(token, squares)
    of_group = squares / np.where(first, squares[first].sum(), squares[~first].sum())
    fixture = {
        "made_by": f"scripts/special_fixture.py, numpy {np.__version__}",
        "n_ctx": N_CTX,
        "count": COUNT,
        "threshold": THRESHOLD,
        "x": x.tolist(),
        "special": {"dim": special, "size": size[special].tolist(), "ratio": ratio[special].tolist()},
        "largest_dimension_ratio": float(ratio.max()),
        "largest": {
            "token": (at // D_MODEL).tolist(),
            "dim": (at % D_MODEL).tolist(),
            "value": x.ravel()[at].tolist(),
            "ratio": (np.abs(x).ravel()[at] / np.median(np.abs(x))).tolist(),
        },
        "dominant": {
            "token": most.tolist(),
            "share": (squares / squares.sum())[most].tolist(),
            "share_of_group": of_group[most].tolist(),
        },
    }
    path = pathlib.Path(__file__).resolve().parent.parent / "tests" / "parity" / "special.json"
    path.write_text(json.dumps(fixture) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

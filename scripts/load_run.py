# /// script
# requires-python = ">=3.10"
# dependencies = ["pandas>=2.2"]
# ///
"""Load the tables of a basislab experiment directory with their types; the functions are those of the package in `python/`.

    from load_run import load_run
    tables = load_run("results/adam-vs-sgd")      # {"summary": DataFrame, "verdicts": DataFrame, ...}

    weights = load_weights("runs/adam-vs-sgd-1a2b3c4d", "adam", 2000)      # {"w_e": array, "blocks.0.w_q": array, ...}

    python scripts/load_run.py results/adam-vs-sgd    # a short overview
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "python"))
try:
    import pandas  # noqa: F401, what read_table needs

    from basislab import load_run, load_weights, read_safetensors, read_table  # noqa: F401
except ModuleNotFoundError:
    if __name__ != "__main__":
        raise
    sys.exit("needs pandas: pip install pandas")


def overview(tables):
    """A few lines of text: how many rows, and what was decided or measured."""
    lines = [f"{name:<11} {len(table):>8} rows, {table.shape[1]:>2} columns" for name, table in tables.items()]
    shown = {
        "verdicts": ["claim", "n_seeds", "estimate", "ci_low", "ci_high", "verdict"],
        "models": ["model", "step", "tokens", "loss", "bits_per_byte", "unigram_loss", "verified"],
    }
    for name, columns in shown.items():
        if name in tables and len(tables[name]):
            lines += ["", tables[name][columns].to_string(index=False)]
    return "\n".join(lines)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python load_run.py DIR")
    try:
        print(overview(load_run(sys.argv[1])))
    except (OSError, ValueError) as error:
        sys.exit(str(error))

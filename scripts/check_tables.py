# /// script
# requires-python = ">=3.10"
# dependencies = ["frictionless>=5.18", "numpy", "pandas>=2.2", "polars>=1.0"]
# ///
"""Checks that other programs read the tables of experiment directories as they are meant.

    python scripts/check_tables.py runs/adam-vs-sgd-1a2b3c4d results/adam-vs-sgd

The data package must be valid, with every row; polars must read every table with its defaults, and find in it the rows,
types and numbers that load_run finds. Exits 1 with one line at the first thing that is wrong.
"""

import sys
from pathlib import Path

# `python -I` leaves the script's own folder out.
sys.path.insert(0, str(Path(__file__).resolve().parent))
try:
    import frictionless
    import numpy as np
    import polars as pl
    from load_run import load_run
except ModuleNotFoundError as error:
    sys.exit(f"needs {error.name}: pip install frictionless pandas polars")

FOUND = {"string": pl.String, "category": pl.String, "Int64": pl.Int64, "float64": pl.Float64, "boolean": pl.Boolean}


def check(path):
    """How many rows the directory's tables hold. Raises ValueError at the first thing that is wrong."""
    package = path / "datapackage.json"
    report = frictionless.validate(str(package))
    if not report.valid:
        errors = [error for task in report.tasks for error in task.errors] + list(report.errors)
        raise ValueError(f"{package}: {errors[0].message if errors else 'not valid'}")
    rows = 0
    for name, expected in load_run(path).items():
        file = path / f"{name}.csv"
        try:
            found = pl.read_csv(file)
        except pl.exceptions.PolarsError as error:
            raise ValueError(f"{file}: polars cannot read it: {str(error).splitlines()[0]}") from error
        if len(found) != len(expected):
            raise ValueError(f"{file}: polars finds {len(found)} rows, load_run {len(expected)}")
        rows += len(found)
        for column in expected.columns:
            compare(file, column, found[column], expected[column])
    return rows


def compare(file, column, found, expected):
    """A column as polars and as load_run found it."""
    empty = int(expected.isna().sum())
    if found.null_count() != empty:
        raise ValueError(f"{file}: {column}: polars finds {found.null_count()} empty cells, load_run {empty}")
    # Nothing can be guessed of a column without a value.
    if empty == len(found):
        return
    wanted = FOUND[str(expected.dtype)] if str(expected.dtype) in FOUND else pl.String
    if found.dtype != wanted:
        raise ValueError(f"{file}: {column}: polars takes it for {found.dtype}, expected {wanted}")
    if wanted in (pl.Int64, pl.Float64):
        numbers = [np.asarray(found.cast(pl.Float64).fill_null(np.nan)), expected.to_numpy("float64", na_value=np.nan)]
        if not np.array_equal(*numbers, equal_nan=True):
            raise ValueError(f"{file}: {column}: polars and load_run find other numbers")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    try:
        for directory in sys.argv[1:]:
            print(f"{directory}: {check(Path(directory))} rows are read the same by frictionless, polars and load_run")
    except (OSError, ValueError) as error:
        sys.exit(" ".join(str(error).split()))

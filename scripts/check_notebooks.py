# /// script
# requires-python = ">=3.10"
# dependencies = ["pandas>=2.2", "polars>=1", "matplotlib>=3.8", "altair>=5"]
# ///
"""Runs the cells of a notebook on other directories than its own, without a kernel, and fails at the first cell that fails.

    python scripts/check_notebooks.py scripts/notebooks/experiment.ipynb runs/my-run results/kurtosis-map
    python scripts/check_notebooks.py --planted runs/my-run       # is a dimension that was made large found, and no other?
"""

import ast
import contextlib
import csv
import io
import json
import os
import shutil
import sys
import tempfile
import warnings
from pathlib import Path

os.environ["MPLBACKEND"] = "agg"


def run(notebook, directory):
    """Runs every code cell; returns the names that they left and what each cell shows, as a notebook would."""
    os.environ["BASISLAB_DIR"] = str(directory)
    names, shown = {"__name__": "notebook"}, []
    for number, cell in enumerate(json.loads(Path(notebook).read_text())["cells"]):
        if cell["cell_type"] != "code":
            continue
        source = ast.parse("".join(cell["source"]), f"{notebook}, cell {number}")
        last = source.body.pop() if isinstance(source.body[-1], ast.Expr) else None
        with contextlib.redirect_stdout(io.StringIO()) as printed, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # figures are not shown
            exec(compile(source, f"{notebook}, cell {number}", "exec"), names)
            if last is not None:
                value = eval(compile(ast.Expression(last.value), f"{notebook}, cell {number}", "eval"), names)
                repr_of = next((getattr(value, name) for name in ("_repr_mimebundle_", "_repr_html_") if hasattr(value, name)), None)
                repr_of() if repr_of else repr(value)
        shown.append((value if last is not None else None, printed.getvalue()))
    return names, shown


def rewritten(path, change):
    """Changes every row of a table in place."""
    rows = list(csv.DictReader(path.open(newline="")))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows([change(row) or row for row in rows])


def check_planted(directory, arm="adam", dim="5"):
    """One dimension of one arm is made large in a copy of the tables, and all others alike: the notebook finds it alone."""

    def of_dimension(row):
        large = row["arm"] == arm and row["dim"] == dim
        row["rms"], row["share_of_energy"] = ("9.0", "0.5") if large else ("1.0", "0.001")

    def of_basis(row):
        if row["metric"] == "max_dim_energy_share":
            in_random = row["basis"].startswith("random:")
            row["value"] = "0.1" if in_random else "0.5" if row["arm"] == arm else "0.001"

    with tempfile.TemporaryDirectory() as copy:
        for file in Path(directory).iterdir():
            if file.is_file():
                shutil.copy(file, copy)
        rewritten(Path(copy, "dimensions.csv"), of_dimension)
        rewritten(Path(copy, "residual.csv"), of_basis)
        names, _ = run(Path(__file__).parent / "notebooks" / "outlier_dimensions.ipynb", copy)
    found, tests = names["found"], names["tests"].set_index("arm")
    for row in found.itertuples():
        expected = f"{dim} (9.0x)" if row.arm == arm else ""
        assert row.dimensions == expected, f"{row.arm} seed {row.seed}: found {row.dimensions!r}, planted {expected!r}"
    seeds, bases = tests.loc[arm, ["seeds", "random bases"]]
    assert abs(tests.loc[arm, "p"] - (bases + 1.0) ** -seeds) < 1e-12, tests
    assert (tests.drop(arm)["p"] > 0.999).all() and len(tests) > 1, tests


if __name__ == "__main__":
    try:
        import altair  # noqa: F401
        import matplotlib  # noqa: F401
        import pandas  # noqa: F401
        import polars  # noqa: F401
    except ModuleNotFoundError as error:
        sys.exit(f"needs {error.name}: pip install {error.name}")
    if len(sys.argv) < 3:
        sys.exit("usage: python check_notebooks.py NOTEBOOK DIR... | --planted DIR")
    if sys.argv[1] == "--planted":
        check_planted(sys.argv[2])
        print(f"ok: a dimension that was planted in {sys.argv[2]} is found")
        sys.exit()
    for directory in sys.argv[2:]:
        run(sys.argv[1], directory)
        print(f"ok: {sys.argv[1]} on {directory}")

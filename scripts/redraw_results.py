# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Draws the figures of committed evidence again, from its tables as they are, and seals them.

    python scripts/redraw_results.py target/release/basislab [results/adam-vs-sgd ...]     # all runs and roundings of results/ without a name

Each directory is copied without its figures, and `basislab report` makes them in the copy. Only figures that are committed are replaced,
and of SHA256SUMS only their lines; a figure whose rows were left out stays as it is. Ends with an error where a table would be another one.
Of measured models `basislab report` only reads what is published: their figures stay.
"""
import hashlib
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Made again, or naming builds.
OTHERS = ["SHA256SUMS", "report.html", "manifest.json"]


def redraw(program, directory):
    """How many figures there are, and how many are other ones now."""
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / directory.name
        shutil.copytree(directory, copy, ignore=shutil.ignore_patterns("figures", "SHA256SUMS", "report.html"))
        done = subprocess.run([program, "report", copy], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"{directory}: {done.stderr}")
        for file in directory.iterdir():
            if file.is_file() and file.name not in OTHERS and file.read_bytes() != (copy / file.name).read_bytes():
                sys.exit(f"{directory}: {file.name} would be another one; no figure was replaced")
        figures = sorted((directory / "figures").glob("*.svg"))
        changed = 0
        for figure in figures:
            drawn = copy / "figures" / figure.name
            if drawn.is_file() and drawn.read_bytes() != figure.read_bytes():
                shutil.copyfile(drawn, figure)
                changed += 1
    seal = directory / "SHA256SUMS"
    lines = [line.split("  ", 1) for line in seal.read_text().splitlines()]
    sums = [(hashlib.sha256((directory / name).read_bytes()).hexdigest() if name.startswith("figures/") else sum, name) for sum, name in lines]
    seal.write_text("".join(f"{sum}  {name}\n" for sum, name in sums), newline="")
    return len(figures), changed


def main(program, directories):
    found = [pathlib.Path(name).resolve() for name in directories] or sorted(file.parent for file in (ROOT / "results").rglob("manifest.json") if "public-models" not in file.parts)
    for directory in found:
        figures, changed = redraw(pathlib.Path(program).resolve(), directory)
        print(f"{directory.name}: {changed} of {figures} figures are other ones now")


if len(sys.argv) < 2:
    sys.exit(__doc__)
main(sys.argv[1], sys.argv[2:])

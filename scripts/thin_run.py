# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Copies what a reader needs of a run into a small folder: the evidence under results/.

    python scripts/thin_run.py runs/adam-vs-sgd-1a2b3c4d results/adam-vs-sgd
    python scripts/thin_run.py --summaries runs/norms-1a2b3c4d results/norms

Kept whole: config (but for the folder of a text), data package, evals, timing, selection, summary, verdicts, privilege, outliers, figures.
The manifest gets a sentence on what was left out.
Thinned by rows, never by rounding:
steps.csv to every 50th and each arm's last step; residual.csv to the metric and tokens of each cell that `[verdict]` or a
claim reads, at the cell's site, and at the last step to the verdict's metric and tokens at all sites and to all metrics at
the verdict's site; dimensions.csv to the verdict's site at the last step; dimension_steps.csv, where there is one, to the
verdict's site.
Summary, verdicts and figures made again from the thinned tables and outliers.csv are those of the whole ones, but for the count of
numbers that `bit-equal` compared. `basislab report` shows the recorded ones, and changes nothing.
Of a directory of `basislab measure` everything is kept but dimensions.csv and the random bases of metrics other than
token_kurtosis.
With --summaries, for experiments of many runs, steps.csv, residual.csv, dimensions.csv and dimension_steps.csv are left
without rows, but for the last step of a run that diverged.
"""
import csv
import hashlib
import json
import pathlib
import re
import shutil
import sys

try:
    import tomllib
except ModuleNotFoundError:
    sys.exit("needs Python 3.11 or newer")

WHOLE = ["datapackage.json", "evals.csv", "timing.csv", "summary.csv", "verdicts.csv"]
SOMETIMES = ["selection.csv", "privilege.csv", "outliers.csv"]
OF_STEPS = ["steps.csv", "residual.csv", "dimensions.csv", "dimension_steps.csv"]
THINNED = (
    "steps.csv holds every 50th and the last step; residual.csv the metric, tokens and site of each cell that claims read, and"
    " at the last step the verdict's metric and tokens at all sites and all metrics at the verdict's site; dimensions.csv the"
    " verdict's site at the last step; dimension_steps.csv the verdict's site"
)
MEASURED = "dimensions.csv was left out, and of residual.csv the random bases of all metrics but token_kurtosis"
NO_ROWS = "the rows of steps.csv, residual.csv, dimensions.csv and dimension_steps.csv were left out"


def main(source, target, summaries=False):
    if not (source / "SHA256SUMS").is_file():
        sys.exit(f"{source}: found no SHA256SUMS, expected the directory of a finished run")
    if (source / "models.csv").is_file():
        return thin_measured(source, target)
    config = tomllib.loads((source / "config.toml").read_text(encoding="utf-8"))
    verdict, cells = config["verdict"], cells_of(config)
    last, layers = ends(source / "evals.csv", source / "residual.csv")
    target.mkdir(parents=True, exist_ok=True)
    for name in WHOLE + [name for name in SOMETIMES if (source / name).is_file()]:
        shutil.copy(source / name, target / name)
    # A text's path is that of one machine, and decides nothing.
    text = re.sub(r"(?m)^path = .*$", own_name, (source / "config.toml").read_text(encoding="utf-8"))
    (target / "config.toml").write_text(text, encoding="utf-8", newline="")
    copy_manifest(source, target, NO_ROWS if summaries else THINNED)

    def at_end(row):
        return int(row["step"]) == last.get(row["arm"])

    def at_site(row, cell):
        return row["site"] == cell["site"].replace("last", str(layers.get(row["arm"], 0) - 1))

    def step(row):
        return int(row["step"]) % 50 == 0 or at_end(row) or row["status"] != "ok"

    def residual(row):
        def is_of(cell):
            return row["metric"] == cell["metric"] and row["tokens"] == cell["tokens"]

        if any(is_of(cell) and at_site(row, cell) for cell in cells):
            return True
        is_read = is_of(verdict) or (row["tokens"] == verdict["tokens"] and at_site(row, verdict))
        return is_read and at_end(row)

    def dimension(row):
        return at_site(row, verdict) and at_end(row)

    def sizes(row):
        return at_site(row, verdict)

    def diverged(row):
        return row.get("status", "ok") != "ok"

    rules = (diverged,) * 4 if summaries else (step, residual, dimension, sizes)
    for name, keep in zip(OF_STEPS, rules, strict=True):
        # Earlier versions wrote no sizes.
        if name != "dimension_steps.csv" or (source / name).is_file():
            keep_rows(source, target, name, keep)
    finish(source, target)


def thin_measured(source, target):
    """A directory of `basislab measure`."""
    target.mkdir(parents=True, exist_ok=True)
    for path in source.glob("*.csv"):
        if path.name != "dimensions.csv":
            shutil.copy(path, target / path.name)
    # Made again, it would not have the table that is left out.
    package = json.loads((source / "datapackage.json").read_text(encoding="utf-8"))
    package["resources"] = [resource for resource in package["resources"] if resource["name"] != "dimensions"]
    (target / "datapackage.json").write_text(json.dumps(package, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    keep_rows(source, target, "residual.csv", lambda row: row["basis"] == "standard" or row["metric"] == "token_kurtosis")
    copy_manifest(source, target, MEASURED)
    finish(source, target)


def keep_rows(source, target, name, keep):
    """The rows of a table that `keep` accepts."""
    with open(source / name, newline="") as old, open(target / name, "w", newline="") as new:
        reader = csv.DictReader(old)
        writer = csv.DictWriter(new, reader.fieldnames, lineterminator="\n")
        writer.writeheader()
        writer.writerows(row for row in reader if keep(row))


def copy_manifest(source, target, said):
    """The manifest with a sentence on what was left out, and the figures."""
    # As text, so that every number stays as it was written.
    manifest = (source / "manifest.json").read_text(encoding="utf-8").rstrip()
    if "thinned" not in json.loads(manifest):
        manifest = f'{manifest[:-1].rstrip()},\n  "thinned": {json.dumps(said)}\n}}'
    (target / "manifest.json").write_text(manifest + "\n", encoding="utf-8")
    shutil.copytree(source / "figures", target / "figures", dirs_exist_ok=True)


def finish(source, target):
    seal(source, target)
    total = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    print(f"{target}: {total} bytes")


def own_name(match):
    """`path = "/folder/text"` without the folder."""
    return f"path = {json.dumps(pathlib.Path(tomllib.loads(match[0])['path']).name, ensure_ascii=False)}"


def cells_of(config):
    """The cells that verdict and claims read. What a claim's cell leaves out is the verdict's."""
    cells = [config["verdict"]]
    for claim in config.get("claim", []):
        for own in (claim.get("cell", {}), claim["test"].get("with", {})):
            cells.append({**config["verdict"], **own})
    return cells


def ends(evals, residual):
    """By arm: its last step, and its number of blocks, as the tables have them."""
    last, layers = {}, {}
    with open(evals, newline="") as file:
        for row in csv.DictReader(file):
            last[row["arm"]] = max(last.get(row["arm"], 0), int(row["step"]))
    with open(residual, newline="") as file:
        for row in csv.DictReader(file):
            block = re.fullmatch(r"blocks\.(\d+)\..*", row["site"])
            if block:
                layers[row["arm"]] = max(layers.get(row["arm"], 0), int(block[1]) + 1)
    return last, layers


def seal(source, target):
    """SHA256SUMS of the files that the run's own lists, for `sha256sum -c`."""
    names = [line.split("  ", 1)[1] for line in (source / "SHA256SUMS").read_text().splitlines()]
    names = [name for name in names if (target / name).is_file()]
    sums = [f"{hashlib.sha256((target / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (target / "SHA256SUMS").write_text("".join(sums), newline="\n")


if __name__ == "__main__":
    paths = [pathlib.Path(argument) for argument in sys.argv[1:] if argument != "--summaries"]
    if len(paths) != 2:
        sys.exit(__doc__)
    main(*paths, summaries="--summaries" in sys.argv)

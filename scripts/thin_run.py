# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Copies what a reader needs of a run into a small folder: the evidence under results/.

    python scripts/thin_run.py runs/adam-vs-sgd-1a2b3c4d results/adam-vs-sgd

Kept whole: config (but for the folder of a text), data package, evals, timing, summary, verdicts, figures. The manifest gets a
sentence on what was left out.
Thinned by rows, never by rounding:
steps.csv to every 20th and the last step; residual.csv to the verdict's metric and tokens everywhere (in random bases,
hence the null band, at the verdict's site alone), plus all metrics at the verdict's site at the last step;
dimensions.csv to the verdict's site at the last step. `basislab report` reads it, shows the recorded summary and verdicts, and
changes nothing.
"""
import csv
import hashlib
import json
import pathlib
import re
import shutil
import sys
import tomllib

WHOLE = ["config.toml", "datapackage.json", "evals.csv", "timing.csv", "summary.csv", "verdicts.csv"]
THINNED = (
    "steps.csv holds every 20th and the last step; residual.csv the verdict's metric and tokens, in random bases at the verdict's"
    " site alone, and all metrics there at the last step; dimensions.csv the verdict's site at the last step"
)


def main(source, target):
    config = tomllib.loads((source / "config.toml").read_text())
    rule, last = config["verdict"], config["train"]["steps"]
    site = rule["site"].replace("last", str(config["model"]["n_layers"] - 1))
    target.mkdir(parents=True, exist_ok=True)
    for name in WHOLE:
        shutil.copy(source / name, target / name)
    if config["corpus"]["kind"] == "text":
        # The run's own path is that of one machine, and decides nothing.
        name = json.dumps(pathlib.Path(config["corpus"]["path"]).name)
        text = re.sub(r"(?m)^path = .*$", lambda _: f"path = {name}", (source / "config.toml").read_text())
        (target / "config.toml").write_text(text)
    # As text, so that every number stays as it was written.
    manifest = (source / "manifest.json").read_text(encoding="utf-8").rstrip()
    if "thinned" not in json.loads(manifest):
        manifest = f'{manifest[:-1].rstrip()},\n  "thinned": {json.dumps(THINNED)}\n}}'
    (target / "manifest.json").write_text(manifest + "\n", encoding="utf-8")
    shutil.copytree(source / "figures", target / "figures", dirs_exist_ok=True)

    def step(row):
        return int(row["step"]) % 20 == 0 or int(row["step"]) == last or row["status"] != "ok"

    def residual(row):
        at_site = row["site"] == site
        at_end = at_site and int(row["step"]) == last
        headline = row["metric"] == rule["metric"] and (at_site or not row["basis"].startswith("random:"))
        return row["tokens"] == rule["tokens"] and (at_end or headline)

    def dimension(row):
        return row["site"] == site and int(row["step"]) == last

    for name, keep in (("steps.csv", step), ("residual.csv", residual), ("dimensions.csv", dimension)):
        with open(source / name, newline="") as old, open(target / name, "w", newline="") as new:
            reader = csv.DictReader(old)
            writer = csv.DictWriter(new, reader.fieldnames, lineterminator="\n")
            writer.writeheader()
            writer.writerows(row for row in reader if keep(row))
    seal(source, target)
    total = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    print(f"{target}: {total} bytes")


def seal(source, target):
    """SHA256SUMS of the files that the run's own lists, for `sha256sum -c`."""
    names = [line.split("  ", 1)[1] for line in (source / "SHA256SUMS").read_text().splitlines()]
    sums = [f"{hashlib.sha256((target / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (target / "SHA256SUMS").write_text("".join(sums), newline="\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))

# /// script
# requires-python = ">=3.10"
# dependencies = ["altair"]
# ///
"""Validates figures in Vega-Lite (`basislab report DIR --vega`) against its schema, and compares them with their SVG files.

    pip install altair
    python scripts/check_vega.py runs/my-run [...]

The schema is the one that altair carries. The title, in order, is that of the SVG file, and so are the labels of the axes.
"""
import html
import json
import pathlib
import re
import sys

try:
    import altair
except ImportError:
    sys.exit("needs altair: pip install altair")


def words(svg):
    """All text of an SVG file in one line."""
    return " ".join(html.unescape(text).strip() for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg))


def check(path):
    specification = json.loads(path.read_text(encoding="utf-8"))
    altair.Chart.from_dict(specification)
    if "vconcat" in specification:
        altair.VConcatChart.from_dict(specification)
    else:
        altair.LayerChart.from_dict(specification)
    said = words(path.with_name(path.name.replace(".vl.json", ".svg")).read_text(encoding="utf-8"))
    title = specification["title"]["text"]
    panels = specification.get("vconcat", [specification])
    labels = {layer["encoding"][axis].get("title") for panel in panels for layer in panel["layer"] for axis in "xy" if axis in layer["encoding"]}
    missing = [text for text in [title, *(label for label in labels if label)] if text not in said]
    if missing:
        sys.exit(f"{path}: the SVG file does not say {missing}")
    return sum(len(panel["layer"]) for panel in panels)


def main(directories):
    for directory in map(pathlib.Path, directories):
        files = sorted(directory.glob("figures/*.vl.json"))
        if not files:
            sys.exit(f"{directory}: found no figures/*.vl.json, expected some; `basislab report {directory} --vega` writes them")
        print(f"{directory}: {len(files)} figures, {sum(map(check, files))} layers")


if len(sys.argv) < 2:
    sys.exit(__doc__)
main(sys.argv[1:])

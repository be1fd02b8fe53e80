"""Tables and weights of the directories that `basislab run` writes."""
from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping, Sequence

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

# Committed evidence may leave these out; every other table belongs to every experiment.
OPTIONAL = {"dimensions", "dimension_steps", "timing"}
STORED = {"F64": "<f8", "F32": "<f4", "BF16": "<u2", "F16": "<f2"}


def load_run(path: str | os.PathLike[str]) -> dict[str, pd.DataFrame]:
    """All tables of the experiment directory `path`, by name, typed as its datapackage.json says.

    Whole numbers become Int64, numbers float64, names from a small set category, other text string. An empty cell is
    a missing value.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: there is no such folder")
    package = path / "datapackage.json"
    if not package.is_file() and (path / "schema.json").is_file():
        package = path / "schema.json"  # its name in earlier versions
    if not package.is_file():
        raise FileNotFoundError(f"{package}: missing; an experiment directory has it once its report is written")
    tables = {}
    for resource in json.loads(package.read_text(encoding="utf-8"))["resources"]:
        file = path / resource["path"]
        if file.is_file():
            tables[resource["name"]] = read_table(file, resource["schema"]["fields"])
        elif resource["name"] not in OPTIONAL:
            raise FileNotFoundError(f"{file}: missing; {package.name} lists it")
    return tables


def read_table(file: str | os.PathLike[str], fields: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One CSV file as a DataFrame; columns that the schema does not know come last, as pandas guesses them."""
    import pandas as pd

    names = [field["name"] for field in fields]
    with open(file, encoding="utf-8") as lines:
        header = lines.readline().rstrip("\r\n").split(",")
    if header[: len(names)] != names:
        raise ValueError(f"{file}: its columns are {header}, expected {names} first (re-saved by a spreadsheet?)")
    types = {field["name"]: pandas_type(field) for field in fields}
    table = pd.read_csv(file, dtype=types, keep_default_na=False, na_values=[""])
    for field in fields:
        order = field["constraints"].get("enum")
        if order:
            table[field["name"]] = table[field["name"]].cat.set_categories(order)
    return table


def load_weights(
    path: str | os.PathLike[str], arm: str, seed: int, file: str = "weights"
) -> dict[str, np.ndarray]:
    """The tensors of a run's newest checkpoint by name, as NumPy arrays: matrices are [in, out], vectors [1, n].

    `file="optimizer"` gives what the optimizer keeps, `NAME.SLOT` (of Adam `first` and `second`), in its own basis. Tensors of
    16 bits are widened to float32, which holds each of their values.
    """
    checkpoints = sorted((Path(path) / "parts" / arm / str(seed) / "checkpoints").glob("[0-9]*"))
    if not checkpoints:
        raise FileNotFoundError(f"{path}: {arm} seed {seed} has no checkpoint")
    return read_safetensors(checkpoints[-1] / f"{file}.safetensors")


def read_safetensors(file: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The tensors of a .safetensors file by name: its header's length, the header as JSON, then the bytes, little-endian."""
    data = Path(file).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in STORED:
            raise ValueError(f"{file}: {name} is {entry['dtype']}, expected {' or '.join(STORED)}")
        begin, end = (8 + length + at for at in entry["data_offsets"])
        if end > len(data):
            raise ValueError(f"{file}: ends before {name} does, at byte {len(data)} of {end}")
        numbers = np.frombuffer(data[begin:end], dtype=STORED[entry["dtype"]])
        if entry["dtype"] == "BF16":  # the upper half of a float32
            numbers = (numbers.astype("<u4") << 16).view("<f4")
        elif entry["dtype"] == "F16":
            numbers = numbers.astype("<f4")
        tensors[name] = numbers.reshape(entry["shape"]).copy()
    return tensors


def pandas_type(field: Mapping[str, Any]) -> str:
    """The pandas type of a schema field."""
    if field["type"] == "string":
        small_set = "enum" in field["constraints"] or field["constraints"].get("required", False)
        return "category" if small_set else "string"
    return {"integer": "Int64", "number": "float64", "boolean": "boolean"}[field["type"]]

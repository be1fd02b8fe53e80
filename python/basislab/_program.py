"""The `basislab` program, called from Python."""
from __future__ import annotations

import json
import os
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


def program() -> str:
    """The path of the program: that of the variable BASISLAB, that of this installation, or the first one in PATH."""
    named = os.environ.get("BASISLAB")
    name = "basislab.exe" if os.name == "nt" else "basislab"
    beside = Path(sysconfig.get_path("scripts")) / name
    found = named or (str(beside) if beside.is_file() else shutil.which("basislab"))
    if not found:
        raise FileNotFoundError(f"no program basislab in {beside.parent} or PATH; set BASISLAB to its path")
    return found


def run(*args: str | os.PathLike[str]) -> str:
    """Runs the program and returns what it printed; its error line is the text of a RuntimeError."""
    done = subprocess.run(
        [program(), *(os.fspath(arg) for arg in args)], capture_output=True, text=True, encoding="utf-8"
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().removeprefix("error: ") or f"basislab ended with {done.returncode}")
    return done.stdout


def metrics(
    array: npt.ArrayLike, *, bases: int = 64, seed: int = 0, skip_zero_tokens: bool = False
) -> dict[str, Any]:
    """Every metric of activations `[n_tokens, d_model]`, each beside the same activations in random bases.

    What `basislab metrics eval --json` prints: `basislab metrics list` names the metrics.
    """
    values = np.ascontiguousarray(array)
    if values.ndim != 2:
        raise ValueError(f"found an array of shape {values.shape}, expected [n_tokens, d_model]")
    if values.dtype not in (np.float16, np.float32, np.float64):
        raise TypeError(f"found an array of {values.dtype}, expected float16, float32 or float64")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "array.npy"
        np.save(file, values)
        args = ["metrics", "eval", str(file), "--json", "--quiet", "--bases", str(bases), "--seed", str(seed)]
        answer: dict[str, Any] = json.loads(run(*args, *(["--skip-zero-tokens"] if skip_zero_tokens else [])))
    return answer

"""Models of basislab as PyTorch modules."""
from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ._load import read_safetensors
from ._program import run

if TYPE_CHECKING:
    from ._transformer import Transformer


def load_torch(path: str | os.PathLike[str], arm: str, seed: int) -> Transformer:
    """The model of a finished run with the weights of its newest checkpoint, in float32.

    `path` is a directory that `basislab run` wrote. The program itself reads it (`basislab export --to weights`), so that
    every architecture and rotation of the stream is as it was trained.
    """
    from ._transformer import Transformer

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "weights"
        run("export", path, "--to", "weights", "--arm", arm, "--seed", str(seed), "--out", out)
        about = json.loads((out / "model.json").read_text(encoding="utf-8"))
        tensors = read_safetensors(out / "weights.safetensors")
        held_out = np.load(out / "held_out_tokens.npy")
    return Transformer(about, tensors, held_out)

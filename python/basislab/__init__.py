"""basislab from Python: the tables and weights of its directories, its metrics on arrays, its models in PyTorch.

    import basislab
    tables = basislab.load_run("results/adam-vs-sgd")                 # pandas DataFrames by name
    weights = basislab.load_weights("runs/my-run", "adam", 2000)      # NumPy arrays by name
    answer = basislab.metrics(activations)                            # [n_tokens, d_model]
    model = basislab.load_torch("runs/my-run", "adam", 2000)          # a torch.nn.Module

`load_run` needs pandas and `load_torch` PyTorch; NumPy is enough for the rest.
"""
from ._load import load_run, load_weights, read_safetensors, read_table
from ._program import metrics, program, run
from ._torch import load_torch

__all__ = ["load_run", "load_torch", "load_weights", "metrics", "program", "read_safetensors", "read_table", "run"]

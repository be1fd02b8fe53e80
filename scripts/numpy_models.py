"""Public models in NumPy, for check_models.py: readers of files, and forward passes from the formulas.

Llama models in llama2.c's format and in GGUF, BERT models in safetensors directories. Values are float32; norms, softmax and
losses are computed in float64. Files are trusted. Nothing here comes from basislab's code.
"""
import json
import math
import pathlib
import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass
class Model:
    """A model in a file; `weight` gives a parameter by its name in GGUF or in BERT's safetensors, matrices `[out, in]`."""

    kind: str  # "llama" or "bert"
    layers: int
    heads: int
    kv_heads: int
    epsilon: float
    rope_base: float
    weight: Callable[[str], np.ndarray]
    vocabulary: list[str]  # the spelling of each token; empty where the file has none


def read_llama2c(path):
    """Seven i32 (width, hidden width, layers, heads, heads of keys, vocabulary, positions), then matrices in float32."""
    raw = path.read_bytes()
    d, hidden, layers, heads, kv_heads, vocabulary, _ = struct.unpack("<7i", raw[:28])
    if vocabulary < 0:
        raise ValueError(f"{path}: found a model with a head of its own, expected a tied one")
    kv = d // heads * kv_heads
    stacked = {"attn_norm": (d,), "attn_q": (d, d), "attn_k": (kv, d), "attn_v": (kv, d), "attn_output": (d, d)}
    stacked |= {"ffn_norm": (d,), "ffn_gate": (hidden, d), "ffn_down": (d, hidden), "ffn_up": (hidden, d)}
    shapes = {"token_embd": (vocabulary, d)} | {k: (layers, *s) for k, s in stacked.items()} | {"output_norm": (d,)}
    weights, at = {}, 28
    for name, shape in shapes.items():
        values = np.frombuffer(raw, "<f4", math.prod(shape), at).reshape(shape)
        at += values.nbytes
        if name in stacked:
            weights |= {f"blk.{layer}.{name}.weight": values[layer] for layer in range(layers)}
        else:
            weights[f"{name}.weight"] = values
    return Model("llama", layers, heads, kv_heads, 1e-5, 1e4, weights.__getitem__, [])


def read_tok512(path):
    """llama2.c's tokenizer: the longest length, then score, length and spelling of each token."""
    raw, at, vocabulary = path.read_bytes(), 4, []
    while at < len(raw):
        (length,) = struct.unpack_from("<i", raw, at + 4)
        vocabulary.append(raw[at + 8 : at + 8 + length].decode())
        at += 8 + length
    return vocabulary


def read_gguf(path):
    """Header (metadata, then name, shape, type and offset of each tensor), then the tensors in blocks."""
    raw, at = np.memmap(path, np.uint8, "r"), 8

    def take(form):
        nonlocal at
        (value,) = struct.unpack_from("<" + form, raw, at)
        at += struct.calcsize(form)
        return value

    def text():
        nonlocal at
        length = take("Q")
        at += length
        return raw[at - length : at].tobytes().decode()

    def value(kind):
        if kind == 8:
            return text()
        if kind == 9:
            item, length = take("I"), take("Q")
            return [value(item) for _ in range(length)]
        return take({0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}[kind])

    n_tensors, n_keys = take("Q"), take("Q")
    keys = {text(): value(take("I")) for _ in range(n_keys)}
    if keys["general.architecture"] != "llama":
        raise ValueError(f"{path}: found a model of {keys['general.architecture']}, expected llama")
    # Shapes are stored with the fastest axis first.
    tensors = {text(): ([take("Q") for _ in range(take("I"))][::-1], take("I"), take("Q")) for _ in range(n_tensors)}
    alignment = keys.get("general.alignment", 32)
    start = -(-at // alignment) * alignment

    def weight(name):
        shape, kind, offset = tensors[name]
        return dequantized(raw[start + offset :], kind, math.prod(shape)).reshape(shape)

    if "output.weight" in tensors:
        raise ValueError(f"{path}: found a model with a head of its own, expected a tied one")
    hyper = lambda name: keys[f"llama.{name}"]
    heads, kv_heads = hyper("attention.head_count"), hyper("attention.head_count_kv")
    epsilon, base = hyper("attention.layer_norm_rms_epsilon"), hyper("rope.freq_base")
    return Model("llama", hyper("block_count"), heads, kv_heads, epsilon, base, weight, keys["tokenizer.ggml.tokens"])


def dequantized(raw, kind, count):
    """The first `count` values of a tensor: F32, Q4_1 (32 values: scale, minimum, 16 bytes) or Q8_0 (scale, 32 bytes)."""
    if kind == 0:
        return np.frombuffer(raw, "<f4", count)
    size = {3: 20, 8: 34}[kind]
    blocks = raw[: count // 32 * size].reshape(-1, size)
    half = lambda at: blocks[:, at : at + 2].copy().view("<f2").astype(np.float32)
    if kind == 8:
        return half(0) * blocks[:, 2:].view(np.int8)
    nibbles = blocks[:, 4:]
    # The low halves of the bytes are the first 16 values.
    return half(0) * np.concatenate([nibbles & 15, nibbles >> 4], axis=1) + half(2)


def read_bert(path):
    """safetensors: u64 length of a JSON header with type, shape and place of each tensor, then the tensors."""
    raw = np.memmap(path / "model.safetensors", np.uint8, "r")
    (length,) = struct.unpack_from("<Q", raw)
    header = json.loads(raw[8 : 8 + length].tobytes())

    def weight(name):
        entry = header[name]
        begin, end = entry["data_offsets"]
        if entry["dtype"] != "F32":
            raise ValueError(f"{path}: {name}: found {entry['dtype']}, expected F32")
        return raw[8 + length + begin : 8 + length + end].view("<f4").reshape(entry["shape"])

    config = json.loads((path / "config.json").read_text())
    if config["model_type"] != "bert" or config["hidden_act"] != "gelu":
        raise ValueError(f"{path}: found {config['model_type']} with {config['hidden_act']}, expected bert with gelu")
    layers, heads = config["num_hidden_layers"], config["num_attention_heads"]
    return Model("bert", layers, heads, heads, config["layer_norm_eps"], 0.0, weight, [])


def read_model(path):
    if path.is_dir():
        return read_bert(path)
    with open(path, "rb") as file:
        return read_gguf(path) if file.read(4) == b"GGUF" else read_llama2c(path)


def attention(q, k, v, heads, causal):
    """`q [S, T, H K]`, `k, v [S, T, G K]` with G dividing H -> `[S, T, H K]`."""
    sequences, length, width = q.shape
    split = lambda x: x.reshape(sequences, length, -1, width // heads).transpose(0, 2, 1, 3)
    q, k, v = split(q), split(k), split(v)
    k, v = (np.repeat(x, heads // x.shape[1], axis=1) for x in (k, v))
    scores = (q @ k.swapaxes(2, 3)).astype(np.float64) / math.sqrt(width // heads)
    if causal:
        scores[..., np.triu(np.ones((length, length), bool), 1)] = -np.inf
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return (weights.astype(np.float32) @ v).transpose(0, 2, 1, 3).reshape(q.shape[0], length, width)


def rope(x, heads, base):
    """Rotates coordinates `(2k, 2k + 1)` of every head by `position / base^(2k / K)`."""
    sequences, length, width = x.shape
    pairs = x.reshape(sequences, length, heads, -1, 2)
    n_pairs = pairs.shape[3]
    angle = np.arange(length)[:, None, None] / base ** (np.arange(n_pairs) / n_pairs)
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    even, odd = pairs[..., 0], pairs[..., 1]
    return np.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1).reshape(x.shape)


def llama(model, tokens):
    """Yields each site of the residual stream with its values `[S, T, D]`."""
    block = lambda layer, name: model.weight(f"blk.{layer}.{name}.weight")

    def norm(x, gain):
        wide = x.astype(np.float64)
        return (wide / np.sqrt(np.mean(wide**2, axis=-1, keepdims=True) + model.epsilon) * gain).astype(np.float32)

    x = model.weight("token_embd.weight")[tokens]
    yield "embed", x
    for layer in range(model.layers):
        read = norm(x, block(layer, "attn_norm"))
        q, k, v = (read @ block(layer, f"attn_{name}").T for name in "qkv")
        q, k = rope(q, model.heads, model.rope_base), rope(k, model.kv_heads, model.rope_base)
        x = x + attention(q, k, v, model.heads, causal=True) @ block(layer, "attn_output").T
        yield f"blocks.{layer}.resid_mid", x
        read = norm(x, block(layer, "ffn_norm"))
        gate = read @ block(layer, "ffn_gate").T
        with np.errstate(over="ignore"):
            hidden = gate / (1 + np.exp(-gate)) * (read @ block(layer, "ffn_up").T)
        x = x + hidden @ block(layer, "ffn_down").T
        yield f"blocks.{layer}.resid_post", x
    yield "final", norm(x, model.weight("output_norm.weight"))


def bert(model, tokens):
    """Yields each site of the residual stream with its values `[S, T, D]`; all tokens are of segment 0."""
    erf = np.frompyfunc(math.erf, 1, 1)
    linear = lambda x, name: x @ model.weight(f"{name}.weight").T + model.weight(f"{name}.bias")

    def norm(x, name):
        wide = x.astype(np.float64)
        centred = wide - wide.mean(axis=-1, keepdims=True)
        unit = centred / np.sqrt(np.mean(centred**2, axis=-1, keepdims=True) + model.epsilon)
        return (unit * model.weight(f"{name}.weight") + model.weight(f"{name}.bias")).astype(np.float32)

    table = lambda name: model.weight(f"embeddings.{name}_embeddings.weight")
    x = table("word")[tokens] + table("position")[: tokens.shape[1]] + table("token_type")[0]
    yield "embed_sum", x
    x = norm(x, "embeddings.LayerNorm")
    yield "embed", x
    for layer in range(model.layers):
        at = f"encoder.layer.{layer}"
        q, k, v = (linear(x, f"{at}.attention.self.{name}") for name in ("query", "key", "value"))
        x = x + linear(attention(q, k, v, model.heads, causal=False), f"{at}.attention.output.dense")
        yield f"blocks.{layer}.attn_sum", x
        x = norm(x, f"{at}.attention.output.LayerNorm")
        yield f"blocks.{layer}.resid_mid", x
        hidden = linear(x, f"{at}.intermediate.dense")
        hidden = hidden * (0.5 * (1 + erf(hidden / math.sqrt(2)).astype(np.float32)))
        x = x + linear(hidden, f"{at}.output.dense")
        yield f"blocks.{layer}.mlp_sum", x
        x = norm(x, f"{at}.output.LayerNorm")
        yield f"blocks.{layer}.resid_post", x
    yield "final", x


def forward(model, tokens):
    """tokens `[S, T]` -> pairs of a site's name and its values `[S, T, D]`, one after the other."""
    return (llama if model.kind == "llama" else bert)(model, tokens)


def final(model, tokens):
    """`[S, T, D]`: what a head would read."""
    return [values for _, values in forward(model, tokens)][-1]


def logits(model, read):
    """`[T, D] -> [T, V]` by the transposed embedding."""
    return read @ model.weight("token_embd.weight").T


def loss(model, read, tokens):
    """Mean over all but the first token of each sequence of -log p, in nats. read `[S, T, D]`, tokens `[S, T]`."""
    losses = []
    for row, sequence in zip(read, tokens):
        scores = logits(model, row[:-1]).astype(np.float64)
        largest = scores.max(axis=1)
        total = largest + np.log(np.exp(scores - largest[:, None]).sum(axis=1))
        losses.append(total - scores[np.arange(len(scores)), sequence[1:]])
    return np.mean(losses)


def kurtosis(x):
    """m4 / m2^2 over the coordinates of a token, mean over tokens. x `[..., D]`."""
    x = x.astype(np.float64)
    centred = x - x.mean(axis=-1, keepdims=True)
    return np.mean(np.mean(centred**4, axis=-1) / np.mean(centred**2, axis=-1) ** 2)

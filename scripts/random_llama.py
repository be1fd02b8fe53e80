# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy"]
# ///
"""Writes a Llama of 1.1 billion random bfloat16 weights (2.2 GB), without a tokenizer, for tests of memory:

    python scripts/random_llama.py DIR
"""
import json
import pathlib
import sys

try:
    import numpy as np
except ModuleNotFoundError as error:
    sys.exit(f"needs {error.name}: pip install numpy")

D, LAYERS, HEADS, KV_HEADS, MLP, V = 2048, 22, 32, 4, 5632, 32000
KV = D // HEADS * KV_HEADS
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": D, "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "intermediate_size": MLP, "vocab_size": V,
    "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
    "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}


def shapes():
    yield "model.embed_tokens.weight", (V, D)
    for layer in range(LAYERS):
        block = f"model.layers.{layer}."
        yield block + "input_layernorm.weight", (D,)
        for part, n in zip("qkvo", (D, KV, KV, D)):
            yield f"{block}self_attn.{part}_proj.weight", (n, D)
        yield block + "post_attention_layernorm.weight", (D,)
        for part, shape in (("gate", (MLP, D)), ("up", (MLP, D)), ("down", (D, MLP))):
            yield f"{block}mlp.{part}_proj.weight", shape
    yield "model.norm.weight", (D,)
    yield "lm_head.weight", (V, D)


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: python scripts/random_llama.py DIR")
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=1) + "\n")
    header, end = {}, 0
    for name, shape in shapes():
        start, end = end, end + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    random = np.random.default_rng(0)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes():
            values = random.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
            if len(shape) == 1:
                values += 1
            file.write((values.view(np.uint32) >> 16).astype("<u2").tobytes())  # cut to bfloat16


main()

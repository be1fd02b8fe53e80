# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.15.0", "transformers==5.24.0", "safetensors", "numpy"]
# ///
"""Writes tests/import: one tiny model of every family that basislab reads, and what transformers computes with it.

Each directory is what `save_pretrained` writes, and `expected.safetensors`: `tokens` [2, 12], and in float32 the residual
stream and what each branch writes to it, [2, 12, D], and `logits` [2, 12, V]. `parameters.json` has, for each parameter
of basislab's model, its two axes and the sum of value i (row-major) times (7919 i mod 1009) - 504. Run again with

    python scripts/import_fixture.py
"""
import json
import pathlib
import shutil
import sys

try:
    import numpy as np
    import torch
    import transformers
    from safetensors.torch import save_file
    from transformers import (BertConfig, BertForPreTraining, GPT2Config, GPT2LMHeadModel, GPTNeoXConfig,
                              GPTNeoXForCausalLM, ImageGPTConfig, ImageGPTForCausalImageModeling, LlamaConfig,
                              LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM,
                              Qwen3Config, Qwen3ForCausalLM)
except ModuleNotFoundError as error:
    sys.exit(f"needs {error.name}: pip install torch transformers numpy")

ROOT = pathlib.Path(__file__).parent.parent / "tests" / "import"
VERSIONS = {"script": "scripts/import_fixture.py", "python": sys.version.split()[0], "torch": torch.__version__,
            "transformers": transformers.__version__}

LLAMA = dict(vocab_size=61, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=32, rms_norm_eps=1e-5, bos_token_id=0, eos_token_id=1)
NEOX = dict(vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=32, layer_norm_eps=1e-5, bos_token_id=0, eos_token_id=1)


def rope(base, **more):
    return dict(rope_parameters=dict(rope_type="default", rope_theta=base, **more))


# Directory: configuration, class, type of the stored weights, arguments of save_pretrained.
MODELS = {
    "llama": (LlamaConfig(**LLAMA, **rope(500.0), tie_word_embeddings=True), LlamaForCausalLM, "float32", {}),
    "llama_sharded": (LlamaConfig(**LLAMA, **rope(10000.0)), LlamaForCausalLM, "bfloat16", dict(max_shard_size="8KB")),
    "mistral": (MistralConfig(**LLAMA, **rope(1000.0), head_dim=8, sliding_window=12), MistralForCausalLM, "float32", {}),
    "qwen2": (Qwen2Config(**LLAMA | dict(num_key_value_heads=1), **rope(1000.0), tie_word_embeddings=True),
              Qwen2ForCausalLM, "float16", {}),
    "qwen3": (Qwen3Config(**LLAMA, **rope(1000.0), head_dim=8), Qwen3ForCausalLM, "float32", {}),
    "gpt2": (GPT2Config(vocab_size=61, n_positions=16, n_embd=24, n_layer=2, n_head=3, layer_norm_epsilon=1e-4,
                        bos_token_id=0, eos_token_id=1), GPT2LMHeadModel, "float32", {}),
    "gpt_neox": (GPTNeoXConfig(**NEOX, **rope(500.0, partial_rotary_factor=0.25)), GPTNeoXForCausalLM, "float32", {}),
    "gpt_neox_sequential": (GPTNeoXConfig(**NEOX, **rope(10000.0, partial_rotary_factor=0.25),
                                          use_parallel_residual=False), GPTNeoXForCausalLM, "float32", {}),
    "bert": (BertConfig(vocab_size=61, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=40,
                        max_position_embeddings=16), BertForPreTraining, "float32", {}),
    "imagegpt": (ImageGPTConfig(vocab_size=62, n_positions=16, n_embd=24, n_layer=2, n_head=3, layer_norm_epsilon=1e-4,
                                activation_function="gelu"), ImageGPTForCausalImageModeling, "float32", {}),
}

LIKE_GPT2 = ("gpt2", "imagegpt")


def randomise(model, generator):
    """Weights large enough for uneven attention; gains around 1, biases around 0."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            is_gain = value.dim() == 1 and name.endswith("weight")
            value.copy_(0.3 * torch.randn(value.shape, generator=generator) + float(is_gain))


def record(model, tokens):
    """The stream and the writes, by hooks."""
    seen = {}

    def first(value):
        return value[0] if isinstance(value, tuple) else value

    def output(name, module):
        module.register_forward_hook(lambda _, args, out: seen.update({name: first(out).detach().clone()}))

    def input(name, module):
        module.register_forward_pre_hook(lambda _, args: seen.update({name: args[0].detach().clone()}))

    base = model.base_model
    if isinstance(model, BertForPreTraining):
        input("embed_sum", base.embeddings.LayerNorm)
        output("embed", base.embeddings.LayerNorm)
        for index, layer in enumerate(base.encoder.layer):
            block = f"blocks.{index}."
            output(block + "attn_out", layer.attention.output.dense)
            input(block + "attn_sum", layer.attention.output.LayerNorm)
            output(block + "resid_mid", layer.attention.output.LayerNorm)
            output(block + "mlp_out", layer.output.dense)
            input(block + "mlp_sum", layer.output.LayerNorm)
            output(block + "resid_post", layer.output.LayerNorm)
    else:
        kind = model.config.model_type
        layers = base.h if kind in LIKE_GPT2 else base.layers
        last = dict(gpt2="ln_f", imagegpt="ln_f", gpt_neox="final_layer_norm").get(kind, "norm")
        input("embed", layers[0])
        output("final", getattr(base, last))
        for index, layer in enumerate(layers):
            block = f"blocks.{index}."
            attention = dict(gpt2="attn", imagegpt="attn", gpt_neox="attention").get(kind, "self_attn")
            output(block + "attn_out", getattr(layer, attention))
            output(block + "mlp_out", layer.mlp)
            output(block + "resid_post", layer)
            if not getattr(model.config, "use_parallel_residual", False):
                input(block + "resid_mid", layer.ln_2 if kind in LIKE_GPT2 else layer.post_attention_layernorm)
    with torch.no_grad():
        result = model(tokens)
    if not isinstance(model, BertForPreTraining):
        seen["logits"] = result.logits
    return {name: value.contiguous() for name, value in seen.items()}


def parameters(model):
    """The parameters of basislab's model: matrices `[in, out]`, vectors `[1, n]`."""
    config = model.config
    weights = {name: value.double().numpy() for name, value in model.state_dict().items()}
    weights = {name.removeprefix(model.base_model_prefix + "."): value for name, value in weights.items()}
    out = {}

    def linear(ours, theirs, bias=None):
        out[ours] = weights[theirs + ".weight"].T
        if bias:
            out[bias] = weights[theirs + ".bias"]

    def norm(ours, theirs):
        out[ours + ".gain"] = weights[theirs + ".weight"]
        if theirs + ".bias" in weights:
            out[ours + ".bias"] = weights[theirs + ".bias"]

    for layer in range(config.num_hidden_layers):
        b = f"blocks.{layer}."
        if config.model_type in LIKE_GPT2:
            h = f"h.{layer}."
            norm(b + "norm_1", h + "ln_1")
            norm(b + "norm_2", h + "ln_2")
            for index, part in enumerate("qkv"):
                out[b + "w_" + part] = np.split(weights[h + "attn.c_attn.weight"], 3, axis=1)[index]
                out[b + "b_" + part] = np.split(weights[h + "attn.c_attn.bias"], 3)[index]
            for ours, theirs in (("o", "attn.c_proj"), ("in", "mlp.c_fc"), ("out", "mlp.c_proj")):
                out[b + "w_" + ours] = weights[h + theirs + ".weight"]
                out[b + "b_" + ours] = weights[h + theirs + ".bias"]
        elif config.model_type == "gpt_neox":
            h = f"layers.{layer}."
            norm(b + "norm_1", h + "input_layernorm")
            norm(b + "norm_2", h + "post_attention_layernorm")
            heads, width = config.num_attention_heads, config.hidden_size
            for index, part in enumerate("qkv"):
                fused = weights[h + "attention.query_key_value.weight"].reshape(heads, 3, -1, width)
                out[b + "w_" + part] = fused[:, index].reshape(width, width).T
                out[b + "b_" + part] = weights[h + "attention.query_key_value.bias"].reshape(heads, 3, -1)[:, index].ravel()
            linear(b + "w_o", h + "attention.dense", b + "b_o")
            linear(b + "w_in", h + "mlp.dense_h_to_4h", b + "b_in")
            linear(b + "w_out", h + "mlp.dense_4h_to_h", b + "b_out")
        elif config.model_type == "bert":
            h = f"encoder.layer.{layer}."
            norm(b + "norm_1", h + "attention.output.LayerNorm")
            norm(b + "norm_2", h + "output.LayerNorm")
            for part, theirs in zip("qkv", ("query", "key", "value")):
                linear(b + "w_" + part, h + "attention.self." + theirs, b + "b_" + part)
            linear(b + "w_o", h + "attention.output.dense", b + "b_o")
            linear(b + "w_in", h + "intermediate.dense", b + "b_in")
            linear(b + "w_out", h + "output.dense", b + "b_out")
        else:
            h = f"layers.{layer}."
            norm(b + "norm_1", h + "input_layernorm")
            norm(b + "norm_2", h + "post_attention_layernorm")
            for part in "qkv":
                linear(b + "w_" + part, f"{h}self_attn.{part}_proj", config.model_type == "qwen2" and b + "b_" + part)
            linear(b + "w_o", h + "self_attn.o_proj")
            for ours, theirs in (("gate", "gate"), ("in", "up"), ("out", "down")):
                linear(b + "w_" + ours, f"{h}mlp.{theirs}_proj")
            if config.model_type == "qwen3":
                norm(b + "q_norm", h + "self_attn.q_norm")
                norm(b + "k_norm", h + "self_attn.k_norm")
    if config.model_type in LIKE_GPT2:
        out |= {"w_e": weights["wte.weight"], "w_pos": weights["wpe.weight"]}
        norm("norm", "ln_f")
        if config.model_type == "imagegpt":
            out["w_e"] = out["w_e"][:-1]  # the last row is the start of a sequence
            linear("w_u", "lm_head")
    elif config.model_type == "gpt_neox":
        out["w_e"] = weights["embed_in.weight"]
        norm("norm", "final_layer_norm")
        linear("w_u", "embed_out" if "embed_out.weight" in weights else "lm_head")
    elif config.model_type == "bert":
        out["w_e"] = weights["embeddings.word_embeddings.weight"]
        segment = weights["embeddings.token_type_embeddings.weight"][0]
        out["w_pos"] = (weights["embeddings.position_embeddings.weight"] + segment).astype(np.float32).astype(np.float64)
        norm("norm_e", "embeddings.LayerNorm")
    else:
        out["w_e"] = weights["embed_tokens.weight"]
        norm("norm", "norm")
        if not config.tie_word_embeddings:
            linear("w_u", "lm_head")
    return {name: np.atleast_2d(value) for name, value in sorted(out.items())}


def main():
    shutil.rmtree(ROOT, ignore_errors=True)
    checks = {}
    for seed, (name, (config, kind, dtype, options)) in enumerate(MODELS.items()):
        folder = ROOT / name
        model = kind(config)
        generator = torch.Generator().manual_seed(seed)
        randomise(model, generator)
        model.to(getattr(torch, dtype)).save_pretrained(folder, safe_serialization=True, **options)
        (folder / "generation_config.json").unlink(missing_ok=True)
        # Read again: a model that was converted to 16 bits and back has rounded its rope frequencies.
        model = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        tokens = torch.randint(0, 61, (2, 12), generator=generator)
        expected = record(model, tokens)
        save_file({"tokens": tokens, **expected}, folder / "expected.safetensors", metadata=VERSIONS)
        sums = {}
        for ours, value in parameters(model).items():
            factors = np.arange(value.size) * 7919 % 1009 - 504
            sums[ours] = [*value.shape, float(np.sum(value.ravel() * factors))]
        checks[name] = sums
        print(name, sum(a * b for a, b, _ in sums.values()), sorted(expected))
    lines = ",\n".join(f'"{name}": {json.dumps(sums)}' for name, sums in checks.items())
    (ROOT / "parameters.json").write_text("{\n" + lines + "\n}\n")
    (ROOT / "provenance.json").write_text(json.dumps(VERSIONS, indent=1) + "\n")


main()

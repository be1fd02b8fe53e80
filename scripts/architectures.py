"""The architectures of bench_pytorch.py: their keys in basislab, the operations they need, and the same functions in PyTorch.

The functions are written as one would in PyTorch, from the formulas; matrices are stored [in, out]. Nothing here comes from
basislab's code.
"""
import math

EPS = 1e-5
D_VOCAB = 256  # of crates/basislab/examples/step.toml, as the model's other keys

ROPE = {"positions.kind": "rope", "positions.base": 10000.0, "positions.pairs": "halves"}
# What differs from the default model: keys of [model]; a function gets the width of a head and the number of heads.
ARCHITECTURES = {
    "default": {},
    "norm-none": {"norm": "none"},
    "norm-rms": {"norm": "rms"},
    "norm-rms-gain": {"norm": "rms-gain"},
    "norm-layernorm": {"norm": "layernorm"},
    "norm-post": {"norm_place": "post"},
    "biases": {"biases": True},
    "qkv-biases": {"qkv_biases": True},
    "rope": ROPE,
    "rope-interleaved": {**ROPE, "positions.pairs": "interleaved"},
    "rope-partial": {**ROPE, "positions.dims": lambda d_head, heads: d_head // 2},
    "softmax-1": {"attention": "softmax-1"},
    "kv-heads": {"n_kv_heads": lambda d_head, heads: heads // 2},
    "d-head": {"d_head": lambda d_head, heads: 2 * d_head},
    "qk-norm": {"qk_norm": True},
    "tied-head": {"tied_head": True},
    "gelu-tanh": {"activation": "gelu-tanh"},
    "relu": {"activation": "relu"},
    "solu": {"activation": "solu"},
    "swiglu": {"mlp": "swiglu"},
    "parallel": {"branches": "parallel"},
    "llama": {**ROPE, "norm": "rms-gain", "mlp": "swiglu", "n_kv_heads": lambda d_head, heads: heads // 2},
}


def changes(name, d_model, heads):
    """The keys of [model] that make this architecture of the default one."""
    value = lambda x: x(d_model // heads, heads) if callable(x) else x
    return {key: value(x) for key, x in ARCHITECTURES[name].items()}


def spec(name, d_model, heads):
    """Every key that decides the function."""
    default = {
        "d_model": d_model, "n_heads": heads, "n_kv_heads": heads, "d_head": d_model // heads, "d_mlp": 4 * d_model,
        "mlp": "plain", "activation": "gelu", "branches": "sequential", "norm": "rms-scalar", "norm_place": "pre",
        "positions.kind": "learned", "attention": "softmax", "qk_norm": False, "tied_head": False, "biases": False,
        "qkv_biases": False,
    }
    return {**default, **changes(name, d_model, heads)}


def operations(spec, layers, pos):
    """Floating-point operations of a training step per token, a lower bound that no implementation can avoid: six for each
    weight of a matrix (a multiplication and an addition in the product, and again for each of its two gradients), and
    attention's two products (scores, mixing) counted in the same way, for visible positions alone: (pos + 1) / 2 of them
    on average. Embeddings are looked up, and norms, biases, rotations, activations, losses and updates are few beside the
    products: none of these count. A tied head multiplies as any other does."""
    d, queries, keys = spec["d_model"], spec["n_heads"] * spec["d_head"], spec["n_kv_heads"] * spec["d_head"]
    of_mlp = (3 if spec["mlp"] == "swiglu" else 2) * d * spec["d_mlp"]
    weights = layers * (2 * d * queries + 2 * d * keys + of_mlp) + d * D_VOCAB
    return 6 * weights + 6 * layers * 2 * queries * (pos + 1) / 2


def loss_function(spec, layers, pos, p):
    """The mean loss of `targets [B, T]` from `tokens [B, T]`, with the parameters `p` by their paths."""
    import torch
    import torch.nn.functional as F

    d, heads, kv_heads, d_head = (spec[key] for key in ("d_model", "n_heads", "n_kv_heads", "d_head"))
    device, is_post = p["w_e"].device, spec["norm_place"] == "post"
    gain = lambda name: p[f"{name}.gain"].flatten()

    def norm(name, x):
        match spec["norm"]:
            case "rms":
                return F.rms_norm(x, (d,), eps=EPS)
            case "rms-scalar":
                return F.rms_norm(x, (d,), eps=EPS) * gain(name)
            case "rms-gain":
                return F.rms_norm(x, (d,), gain(name), EPS)
            case "layernorm":
                return F.layer_norm(x, (d,), gain(name), p[f"{name}.bias"].flatten(), EPS)
        return x

    def linear(x, w, bias):
        return x @ p[w] if bias not in p else F.linear(x, p[w].t(), p[bias].flatten())

    if spec["positions.kind"] == "rope":
        dims = spec.get("positions.dims", d_head)
        angles = torch.arange(pos, dtype=torch.float64, device=device)[:, None] * spec["positions.base"] ** (
            -torch.arange(0, dims, 2, dtype=torch.float64, device=device) / dims
        )
        cos, sin = (table.to(p["w_e"].dtype) for table in (angles.cos(), angles.sin()))

    def rope(x):
        if spec["positions.kind"] != "rope":
            return x
        turned, rest = x[..., :dims], x[..., dims:]
        if spec["positions.pairs"] == "halves":
            a, b = turned.chunk(2, -1)
            turned = torch.cat((a * cos - b * sin, a * sin + b * cos), -1)
        else:
            a, b = turned.unflatten(-1, (-1, 2)).unbind(-1)
            turned = torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)
        return torch.cat((turned.to(rest.dtype), rest), -1) if dims < d_head else turned

    later = torch.ones(pos, pos, dtype=torch.bool, device=device).triu(1)

    def softmax_1(q, k, v):
        k, v = (x.repeat_interleave(heads // kv_heads, 1) for x in (k, v))
        scores = q @ k.transpose(2, 3) * d_head**-0.5
        scores = scores.to(p["w_e"].dtype).masked_fill(later, -math.inf)
        most = scores.detach().amax(-1, keepdim=True).clamp(min=0)
        weights = (scores - most).exp()
        return weights / (weights.sum(-1, keepdim=True) + (-most).exp()) @ v

    def attention(block, x):
        batch = x.shape[0]
        split = lambda x, heads: x.view(batch, pos, heads, d_head).transpose(1, 2)
        q, k, v = (
            split(linear(x, f"{block}w_{n}", f"{block}b_{n}"), n_heads)
            for n, n_heads in (("q", heads), ("k", kv_heads), ("v", kv_heads))
        )
        if spec["qk_norm"]:
            q, k = (F.rms_norm(x, (d_head,), gain(f"{block}{n}_norm"), EPS) for n, x in (("q", q), ("k", k)))
        q, k = rope(q), rope(k)
        if spec["attention"] == "softmax-1":
            mixed = softmax_1(q, k, v)
        else:
            q, k = q.to(v.dtype), k.to(v.dtype)
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=kv_heads != heads)
        return linear(mixed.transpose(1, 2).reshape(batch, pos, heads * d_head), f"{block}w_o", f"{block}b_o")

    def mlp(block, x):
        hidden = linear(x, f"{block}w_in", f"{block}b_in")
        if spec["mlp"] == "swiglu":
            hidden = F.silu(x @ p[f"{block}w_gate"]) * hidden
        else:
            match spec["activation"]:
                case "gelu":
                    hidden = F.gelu(hidden)
                case "gelu-tanh":
                    hidden = F.gelu(hidden, approximate="tanh")
                case "relu":
                    hidden = F.relu(hidden)
                case "solu":
                    hidden = hidden * hidden.softmax(-1)
        return linear(hidden, f"{block}w_out", f"{block}b_out")

    def loss_of(tokens, targets):
        x = F.embedding(tokens, p["w_e"])
        if "w_pos" in p:
            x = x + p["w_pos"]
        if is_post:
            x = norm("norm_e", x)
        for i in range(layers):
            block = f"blocks.{i}."
            norm_1, norm_2 = f"{block}norm_1", f"{block}norm_2"
            if is_post:
                x = norm(norm_1, x + attention(block, x))
                x = norm(norm_2, x + mlp(block, x))
            elif spec["branches"] == "parallel":
                x = x + attention(block, norm(norm_1, x)) + mlp(block, norm(norm_2, x))
            else:
                x = x + attention(block, norm(norm_1, x))
                x = x + mlp(block, norm(norm_2, x))
        if not is_post:
            x = norm("norm", x)
        logits = F.linear(x, p["w_e"]) if spec["tied_head"] else x @ p["w_u"]
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    return loss_of

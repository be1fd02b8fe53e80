# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.15.0", "numpy"]
# ///
"""Writes tests/parity/pytorch.json: what PyTorch computes for small models, in float64.

For six architectures: weights, tokens, logits, loss and the gradient of every parameter. For each optimizer: 20 losses
of the first architecture, with global-norm clipping (some steps are clipped). Run again with

    python scripts/parity_fixture.py

The model below is written from the formulas, not from basislab's code; matrices are stored [in, out].
"""
import json
import math
import pathlib
import sys

try:
    import torch
    import torch.nn.functional as F
except ModuleNotFoundError as error:
    sys.exit(f"needs {error.name}: pip install torch numpy")

V, D, T, B, HEADS, MLP, LAYERS, EPS = 16, 8, 6, 3, 2, 12, 2, 1e-5
torch.set_default_dtype(torch.float64)
torch.manual_seed(20261123)

ARCHITECTURES = {
    "default": dict(activation="gelu", norm="rms-scalar", positions="learned", attention="softmax", tied_head=False, biases=False),
    "classic": dict(activation="relu", norm="layernorm", positions="rope", attention="softmax-1", tied_head=True, biases=True),
    "mixed": dict(activation="solu", norm="rms-gain", positions="learned", attention="softmax-1", tied_head=False, biases=False),
}
# Keys of `options` are those of basislab's [model] table; what is not named has its default there.
LATER_ARCHITECTURES = {
    "llama": dict(activation="relu", norm="rms-gain", positions="rope", attention="softmax", tied_head=True, biases=False,
                  options=dict(mlp="swiglu", n_kv_heads=1, d_head=6, qk_norm=True, qkv_biases=True, pairs="interleaved", dims=4)),
    "neox": dict(activation="gelu-tanh", norm="layernorm", positions="rope", attention="softmax", tied_head=False, biases=True,
                 options=dict(branches="parallel", dims=2)),
    "post": dict(activation="gelu", norm="layernorm", positions="learned", attention="softmax", tied_head=False, biases=True,
                 options=dict(norm_place="post")),
}
ROPE_BASE = 100.0
CLIP = 1.0
OPTIMIZERS = {
    "sgd": (dict(kind="sgd", lr=0.3, momentum=0.0, nesterov=False, weight_decay=0.0, decoupled_weight_decay=0.0),
            lambda p: torch.optim.SGD(p, lr=0.3)),
    "sgd-momentum": (dict(kind="sgd", lr=0.1, momentum=0.9, nesterov=False, weight_decay=0.01, decoupled_weight_decay=0.0),
                     lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01)),
    "sgd-nesterov": (dict(kind="sgd", lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.0, decoupled_weight_decay=0.0),
                     lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True)),
    "adam": (dict(kind="adam", lr=0.02, beta_1=0.9, beta_2=0.999, epsilon=1e-8, weight_decay=0.0),
             lambda p: torch.optim.Adam(p, lr=0.02)),
    "adam-decay": (dict(kind="adam", lr=0.02, beta_1=0.8, beta_2=0.95, epsilon=1e-3, weight_decay=0.05),
                   lambda p: torch.optim.Adam(p, lr=0.02, betas=(0.8, 0.95), eps=1e-3, weight_decay=0.05)),
    "adamw": (dict(kind="adamw", lr=0.02, beta_1=0.9, beta_2=0.999, epsilon=1e-8, decoupled_weight_decay=0.1),
              lambda p: torch.optim.AdamW(p, lr=0.02, weight_decay=0.1)),
}


def parameters(arch):
    gauss = lambda *shape: torch.randn(*shape) * 0.4
    options = arch.get("options", {})
    k = options.get("d_head", D // HEADS)
    d_q, d_kv = HEADS * k, options.get("n_kv_heads", HEADS) * k
    p = {"w_e": gauss(V, D)}
    if arch["positions"] == "learned":
        p["w_pos"] = gauss(T, D)

    def norm(name):
        if arch["norm"] == "rms-scalar":
            p[f"{name}.gain"] = 1 + gauss(1, 1)
        if arch["norm"] in ("rms-gain", "layernorm"):
            p[f"{name}.gain"] = 1 + gauss(1, D)
        if arch["norm"] == "layernorm":
            p[f"{name}.bias"] = gauss(1, D)

    is_post = options.get("norm_place") == "post"
    if is_post:
        norm("norm_e")
    for i in range(LAYERS):
        norm(f"blocks.{i}.norm_1")
        for name, shape in (("w_q", (D, d_q)), ("w_k", (D, d_kv)), ("w_v", (D, d_kv)), ("w_o", (d_q, D))):
            p[f"blocks.{i}.{name}"] = gauss(*shape)
        norm(f"blocks.{i}.norm_2")
        p[f"blocks.{i}.w_in"] = gauss(D, MLP)
        p[f"blocks.{i}.w_out"] = gauss(MLP, D)
        if arch["biases"]:
            for name, n in (("b_q", D), ("b_k", D), ("b_v", D), ("b_o", D), ("b_in", MLP), ("b_out", D)):
                p[f"blocks.{i}.{name}"] = gauss(1, n)
        if options.get("qkv_biases"):
            for name, n in (("b_q", d_q), ("b_k", d_kv), ("b_v", d_kv)):
                p[f"blocks.{i}.{name}"] = gauss(1, n)
        if options.get("qk_norm"):
            for name in ("q_norm", "k_norm"):
                p[f"blocks.{i}.{name}.gain"] = 1 + gauss(1, k)
        if options.get("mlp") == "swiglu":
            p[f"blocks.{i}.w_gate"] = gauss(D, MLP)
    if not is_post:
        norm("norm")
    if not arch["tied_head"]:
        p["w_u"] = gauss(D, V)
    return {name: value.requires_grad_() for name, value in p.items()}


def apply_norm(arch, p, name, x):
    if arch["norm"] == "layernorm":
        return F.layer_norm(x, (D,), p[f"{name}.gain"][0], p[f"{name}.bias"][0], EPS)
    return F.rms_norm(x, (D,), eps=EPS) * p[f"{name}.gain"]


def rope(x, pairs, dims):  # [B, H, T, K]: pairs (i, i + dims / 2) or (2 i, 2 i + 1) of the first coordinates
    x, rest = x[..., :dims], x[..., dims:]
    k = dims // 2
    angle = torch.arange(T)[:, None] * ROPE_BASE ** (-torch.arange(k) / k)[None, :]
    parts = x.unflatten(-1, (k, 2)) if pairs == "interleaved" else torch.stack([x[..., :k], x[..., k:]], -1)
    turned = torch.view_as_complex(parts.contiguous()) * torch.polar(torch.ones_like(angle), angle)
    if pairs == "interleaved":
        turned = torch.view_as_real(turned).flatten(-2)
    else:
        turned = torch.cat([turned.real, turned.imag], -1)
    return torch.cat([turned, rest], -1)


def attention(arch, p, at, y):
    options, bias = arch.get("options", {}), lambda name: p[at + name][0] if at + name in p else 0.0
    k_width = options.get("d_head", D // HEADS)
    q, k, v = ((y @ p[at + f"w_{n}"] + bias(f"b_{n}")).unflatten(-1, (-1, k_width)).transpose(1, 2) for n in "qkv")
    if options.get("qk_norm"):
        q, k = (F.rms_norm(x, (k_width,), eps=EPS) * p[at + f"{n}_norm.gain"][0] for x, n in ((q, "q"), (k, "k")))
    if arch["positions"] == "rope":
        how = options.get("pairs", "halves"), options.get("dims", k_width)
        q, k = rope(q, *how), rope(k, *how)
    if arch["attention"] == "softmax":
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    else:  # softmax-1 is softmax with one more key of score 0 and value 0
        scores = q @ k.transpose(-1, -2) / math.sqrt(k_width)
        scores = scores.masked_fill(torch.ones(T, T).triu(1).bool(), -math.inf)
        mixed = F.softmax(F.pad(scores, (0, 1)), -1)[..., :-1] @ v
    return mixed.transpose(1, 2).flatten(-2) @ p[at + "w_o"] + bias("b_o")


def mlp(arch, p, at, y):
    bias = lambda name: p[at + name][0] if at + name in p else 0.0
    h = y @ p[at + "w_in"] + bias("b_in")
    if arch.get("options", {}).get("mlp") == "swiglu":
        h = F.silu(y @ p[at + "w_gate"]) * h
    else:
        h = {"gelu": F.gelu, "relu": F.relu, "solu": lambda h: h * F.softmax(h, -1),
             "gelu-tanh": lambda h: F.gelu(h, approximate="tanh")}[arch["activation"]](h)
    return h @ p[at + "w_out"] + bias("b_out")


def forward(arch, p, tokens):
    options, norm = arch.get("options", {}), lambda name, x: apply_norm(arch, p, name, x)
    x = F.embedding(tokens, p["w_e"])
    if arch["positions"] == "learned":
        x = x + p["w_pos"][: tokens.shape[1]]
    is_post = options.get("norm_place") == "post"
    if is_post:
        x = norm("norm_e", x)
    for i in range(LAYERS):
        at = f"blocks.{i}."
        if is_post:
            x = norm(at + "norm_1", x + attention(arch, p, at, x))
            x = norm(at + "norm_2", x + mlp(arch, p, at, x))
        elif options.get("branches") == "parallel":
            x = x + attention(arch, p, at, norm(at + "norm_1", x)) + mlp(arch, p, at, norm(at + "norm_2", x))
        else:
            x = x + attention(arch, p, at, norm(at + "norm_1", x))
            x = x + mlp(arch, p, at, norm(at + "norm_2", x))
    if not is_post:
        x = norm("norm", x)
    return x @ (p["w_e"].T if arch["tied_head"] else p["w_u"])


def loss_of(arch, p, sequences):
    logits = forward(arch, p, sequences[:, :-1])
    return logits, F.cross_entropy(logits.flatten(0, 1), sequences[:, 1:].flatten())


def main():
    models = []

    def add_model(name, arch):
        p = parameters(arch)
        sequences = torch.randint(V, (B, T + 1))
        logits, loss = loss_of(arch, p, sequences)
        loss.backward()
        models.append(dict(
            name=name, **arch, sequences=sequences.tolist(), loss=loss.item(), logits=logits.flatten(0, 1).tolist(),
            weights={k: v.tolist() for k, v in p.items()}, gradients={k: v.grad.tolist() for k, v in p.items()}))
        return {k: v.detach().clone() for k, v in p.items()}, arch

    start, *_ = [add_model(name, arch) for name, arch in ARCHITECTURES.items()]
    batches = torch.randint(V, (20, B, T + 1))
    optimizers = []
    for name, (spec, make) in OPTIMIZERS.items():
        weights, arch = start
        p = {k: v.clone().requires_grad_() for k, v in weights.items()}
        optimizer, losses, clipped = make(p.values()), [], 0
        for batch in batches:
            optimizer.zero_grad()
            loss = loss_of(arch, p, batch)[1]
            loss.backward()
            clipped += torch.nn.utils.clip_grad_norm_(p.values(), CLIP).item() > CLIP
            optimizer.step()
            losses.append(loss.item())
        optimizers.append(dict(name=name, spec=spec, losses=losses, clipped_steps=clipped))
    # Drawn last, so that the numbers above do not depend on them.
    for name, arch in LATER_ARCHITECTURES.items():
        add_model(name, arch)
    out = dict(
        made_by="scripts/parity_fixture.py", torch=torch.__version__, dtype="float64",
        d_vocab=V, d_model=D, n_ctx=T, n_heads=HEADS, d_mlp=MLP, n_layers=LAYERS, norm_epsilon=EPS, rope_base=ROPE_BASE,
        clip_norm=CLIP, models=models, batches=batches.tolist(), optimizers=optimizers)
    path = pathlib.Path(__file__).parent.parent / "tests/parity/pytorch.json"
    path.write_text(json.dumps(out) + "\n")
    print(path, path.stat().st_size, [(o["name"], o["clipped_steps"], round(o["losses"][-1], 4)) for o in optimizers])


if __name__ == "__main__":
    main()

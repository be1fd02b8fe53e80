# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.15.0", "numpy"]
# ///
"""Writes tests/parity/pytorch.json: what PyTorch computes for small models, in float64.

For three architectures: weights, tokens, logits, loss and the gradient of every parameter. For each optimizer: 20 losses
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

    for i in range(LAYERS):
        norm(f"blocks.{i}.norm_1")
        for name in ("w_q", "w_k", "w_v", "w_o"):
            p[f"blocks.{i}.{name}"] = gauss(D, D)
        norm(f"blocks.{i}.norm_2")
        p[f"blocks.{i}.w_in"] = gauss(D, MLP)
        p[f"blocks.{i}.w_out"] = gauss(MLP, D)
        if arch["biases"]:
            for name, n in (("b_q", D), ("b_k", D), ("b_v", D), ("b_o", D), ("b_in", MLP), ("b_out", D)):
                p[f"blocks.{i}.{name}"] = gauss(1, n)
    norm("norm")
    if not arch["tied_head"]:
        p["w_u"] = gauss(D, V)
    return {name: value.requires_grad_() for name, value in p.items()}


def apply_norm(arch, p, name, x):
    if arch["norm"] == "layernorm":
        return F.layer_norm(x, (D,), p[f"{name}.gain"][0], p[f"{name}.bias"][0], EPS)
    return F.rms_norm(x, (D,), eps=EPS) * p[f"{name}.gain"]


def rope(x):  # [B, H, T, K], half-split pairs
    k = x.shape[-1] // 2
    angle = torch.arange(T)[:, None] * ROPE_BASE ** (-torch.arange(k) / k)[None, :]
    turned = torch.view_as_complex(torch.stack([x[..., :k], x[..., k:]], -1)) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([turned.real, turned.imag], -1)


def forward(arch, p, tokens):
    x = F.embedding(tokens, p["w_e"])
    if arch["positions"] == "learned":
        x = x + p["w_pos"][: tokens.shape[1]]
    bias = lambda name: p[name][0] if name in p else 0.0
    for i in range(LAYERS):
        at = f"blocks.{i}."
        y = apply_norm(arch, p, at + "norm_1", x)
        q, k, v = ((y @ p[at + f"w_{n}"] + bias(at + f"b_{n}")).unflatten(-1, (HEADS, D // HEADS)).transpose(1, 2) for n in "qkv")
        if arch["positions"] == "rope":
            q, k = rope(q), rope(k)
        if arch["attention"] == "softmax":
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:  # softmax-1 is softmax with one more key of score 0 and value 0
            scores = q @ k.transpose(-1, -2) / math.sqrt(D // HEADS)
            scores = scores.masked_fill(torch.ones(T, T).triu(1).bool(), -math.inf)
            mixed = F.softmax(F.pad(scores, (0, 1)), -1)[..., :-1] @ v
        x = x + mixed.transpose(1, 2).flatten(-2) @ p[at + "w_o"] + bias(at + "b_o")
        y = apply_norm(arch, p, at + "norm_2", x)
        h = y @ p[at + "w_in"] + bias(at + "b_in")
        h = {"gelu": F.gelu, "relu": F.relu, "solu": lambda h: h * F.softmax(h, -1)}[arch["activation"]](h)
        x = x + h @ p[at + "w_out"] + bias(at + "b_out")
    x = apply_norm(arch, p, "norm", x)
    return x @ (p["w_e"].T if arch["tied_head"] else p["w_u"])


def loss_of(arch, p, sequences):
    logits = forward(arch, p, sequences[:, :-1])
    return logits, F.cross_entropy(logits.flatten(0, 1), sequences[:, 1:].flatten())


def main():
    models, start = [], None
    for name, arch in ARCHITECTURES.items():
        p = parameters(arch)
        sequences = torch.randint(V, (B, T + 1))
        logits, loss = loss_of(arch, p, sequences)
        loss.backward()
        start = start or ({k: v.detach().clone() for k, v in p.items()}, arch)
        models.append(dict(
            name=name, **arch, sequences=sequences.tolist(), loss=loss.item(), logits=logits.flatten(0, 1).tolist(),
            weights={k: v.tolist() for k, v in p.items()}, gradients={k: v.grad.tolist() for k, v in p.items()}))
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
    out = dict(
        made_by="scripts/parity_fixture.py", torch=torch.__version__, dtype="float64",
        d_vocab=V, d_model=D, n_ctx=T, n_heads=HEADS, d_mlp=MLP, n_layers=LAYERS, norm_epsilon=EPS, rope_base=ROPE_BASE,
        clip_norm=CLIP, models=models, batches=batches.tolist(), optimizers=optimizers)
    path = pathlib.Path(__file__).parent.parent / "tests/parity/pytorch.json"
    path.write_text(json.dumps(out) + "\n")
    print(path, path.stat().st_size, [(o["name"], o["clipped_steps"], round(o["losses"][-1], 4)) for o in optimizers])


if __name__ == "__main__":
    main()

"""The forward pass of `basislab-model` in PyTorch."""
from __future__ import annotations

from typing import Any, Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn


class Transformer(nn.Module):
    """A model that basislab trained, in evaluation mode.

    `spec` has the keys of `[model]`, `step` the updates that were made, `texts` the text of every token, and `held_out` the
    sequences whose loss is in `evals.csv`. Parameters are matrices `[in, out]` and vectors `[1, n]` under basislab's names, with
    `_` for `.`.
    """

    held_out: Tensor

    def __init__(self, about: Mapping[str, Any], tensors: Mapping[str, np.ndarray], held_out: np.ndarray) -> None:
        super().__init__()
        self.spec: dict[str, Any] = dict(about["model"])
        self.step: int = about["step"]
        self.texts: list[str] = list(about["texts"])
        for name, values in tensors.items():
            self.register_parameter(name.replace(".", "_"), nn.Parameter(torch.from_numpy(values)))
        self.register_buffer("held_out", torch.from_numpy(held_out).long(), persistent=False)
        self.eval()

    def weight(self, name: str) -> Tensor | None:
        """A parameter by basislab's name; None where the model has no such one."""
        return getattr(self, name.replace(".", "_"), None)

    def forward(self, tokens: Tensor, on_site: Callable[[str, Tensor], None] | None = None) -> Tensor:
        """Logits `[batch, positions, vocabulary]` of tokens `[batch, positions]`. `on_site` gets the stream at every site and
        what the branches write, `[batch, positions, d_model]`, under the names of `residual.csv`."""
        spec, show = self.spec, on_site or (lambda name, x: None)
        most = spec["n_ctx"]
        if tokens.dim() != 2 or tokens.shape[1] > most:
            raise ValueError(f"found tokens of shape {list(tokens.shape)}, expected [batch, at most {most}]")
        is_post = spec.get("norm_place", "pre") == "post"
        is_parallel = spec.get("branches", "sequential") == "parallel"
        x = self._needed("w_e")[tokens]
        positions = self.weight("w_pos")
        if positions is not None:
            x = x + positions[: tokens.shape[1]]
        if is_post:
            show("embed_sum", x)
            x = self._norm("norm_e", x)
        show("embed", x)
        for layer in range(spec["n_layers"]):
            block = f"blocks.{layer}."
            before = x
            written = self._attention(block, x if is_post else self._norm(block + "norm_1", x))
            show(block + "attn_out", written)
            x = x + written
            if is_post:
                show(block + "attn_sum", x)
                x = self._norm(block + "norm_1", x)
            if not is_parallel:
                show(block + "resid_mid", x)
            read = before if is_parallel else x
            written = self._mlp(block, read if is_post else self._norm(block + "norm_2", read))
            show(block + "mlp_out", written)
            x = x + written
            if is_post:
                show(block + "mlp_sum", x)
                x = self._norm(block + "norm_2", x)
            show(block + "resid_post", x)
        if not is_post:
            x = self._norm("norm", x)
            show("final", x)
        head = self._needed("w_e").T if spec["tied_head"] else self._needed("w_u")
        return x @ head

    @torch.no_grad()
    def loss(self, sequences: Tensor | None = None) -> float:
        """Mean cross-entropy in nats of every token of the sequences but the first; that of `evals.csv` without an argument."""
        sequences = self.held_out if sequences is None else sequences
        total, count = 0.0, 0
        for batch in sequences.split(16):
            logits, targets = self(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten()
            total += float(nn.functional.cross_entropy(logits.double(), targets, reduction="sum"))
            count += targets.numel()
        return total / count

    @torch.no_grad()
    def activations(self, tokens: Tensor) -> dict[str, Tensor]:
        """The stream at every site and what the branches write, by name."""
        seen: dict[str, Tensor] = {}
        self(tokens, lambda name, x: seen.update({name: x}))
        return seen

    @torch.no_grad()
    def generate(self, tokens: Sequence[int], count: int, temperature: float = 1.0, seed: int = 0) -> list[int]:
        """The tokens and `count` more, drawn from the model; the likeliest ones at temperature 0."""
        if not tokens:
            raise ValueError("found no tokens, expected at least one to begin with")
        generator = torch.Generator().manual_seed(seed)
        all_tokens = list(tokens)
        for _ in range(count):
            window = torch.tensor([all_tokens[-self.spec["n_ctx"] :]], device=self.held_out.device)
            logits = self(window)[0, -1].cpu()
            if temperature == 0.0:
                all_tokens.append(int(logits.argmax()))
            else:
                shares = (logits / temperature).softmax(0)
                all_tokens.append(int(torch.multinomial(shares, 1, generator=generator)))
        return all_tokens

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens."""
        return "".join(self.texts[token] for token in tokens)

    def _needed(self, name: str) -> Tensor:
        found = self.weight(name)
        if found is None:
            raise ValueError(f"the model has no parameter {name}")
        return found

    def _norm(self, name: str, x: Tensor) -> Tensor:
        kind = self.spec["norm"]
        if kind == "none":
            return x
        if kind == "layernorm":
            x = x - x.mean(-1, keepdim=True)
        return self._scaled(name, x)

    def _scaled(self, name: str, x: Tensor) -> Tensor:
        """Divided by its root mean square, with the gain and bias of a norm."""
        x = x / (x.square().mean(-1, keepdim=True) + self.spec["norm_epsilon"]).sqrt()
        gain, bias = self.weight(name + ".gain"), self.weight(name + ".bias")
        x = x if gain is None else x * gain[0]
        return x if bias is None else x + bias[0]

    def _linear(self, block: str, name: str, x: Tensor) -> Tensor:
        x, bias = x @ self._needed(f"{block}w_{name}"), self.weight(f"{block}b_{name}")
        return x if bias is None else x + bias[0]

    def _attention(self, block: str, x: Tensor) -> Tensor:
        spec = self.spec
        heads = spec["n_heads"]
        shared = heads // spec.get("n_kv_heads", heads)
        q, k, v = (self._heads(self._linear(block, name, x)) for name in "qkv")
        if spec.get("qk_norm", False):
            q, k = self._scaled(block + "q_norm", q), self._scaled(block + "k_norm", k)
        if spec["positions"]["kind"] == "rope":
            q, k = self._rope(q), self._rope(k)
        k, v = k.repeat_interleave(shared, dim=1), v.repeat_interleave(shared, dim=1)
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        if spec.get("mask", "causal") == "causal":
            later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=x.device).triu(1)
            scores = scores.masked_fill(later, float("-inf"))
        if spec["attention"] == "softmax-1":  # a key whose score is 0 and whose value is 0
            scores = nn.functional.pad(scores, (0, 1))
            shares = scores.softmax(-1)[..., :-1]
        else:
            shares = scores.softmax(-1)
        return self._linear(block, "o", (shares @ v).transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        """`[batch, positions, heads x width]` -> `[batch, heads, positions, width]`"""
        width = self.spec.get("d_head", self.spec["d_model"] // self.spec["n_heads"])
        return x.unflatten(-1, (-1, width)).transpose(1, 2)

    def _rope(self, x: Tensor) -> Tensor:
        keys = self.spec["positions"]
        width = x.shape[-1]
        dims = keys.get("dims", width)
        pairs = torch.arange(dims // 2, dtype=torch.float64)
        angles = torch.outer(torch.arange(x.shape[-2], dtype=torch.float64), keys["base"] ** (-2.0 * pairs / dims))
        cos, sin = angles.cos().to(x), angles.sin().to(x)
        turned, rest = x[..., :dims], x[..., dims:]
        if keys.get("pairs", "halves") == "halves":
            a, b = turned.chunk(2, dim=-1)
            turned = torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)
        else:
            a, b = turned[..., 0::2], turned[..., 1::2]
            turned = torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)
        return torch.cat([turned, rest], dim=-1)

    def _mlp(self, block: str, x: Tensor) -> Tensor:
        hidden = self._linear(block, "in", x)
        if self.spec.get("mlp", "plain") == "swiglu":
            hidden = nn.functional.silu(x @ self._needed(block + "w_gate")) * hidden
        else:
            hidden = ACTIVATIONS[self.spec["activation"]](hidden)
        return self._linear(block, "out", hidden)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": nn.functional.gelu,
    "gelu-tanh": lambda x: nn.functional.gelu(x, approximate="tanh"),
    "relu": nn.functional.relu,
    "solu": lambda x: x * x.softmax(-1),
}

"""Attention, in whichever way is the fastest."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def attention(q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None = None) -> Tensor:
    """Softmax attention of m queries to n keys; (B, heads, m or n, C) each to (B, heads, m, C).

    Of less than single precision it is written out on a CPU, since torch 2.13's
    ``scaled_dot_product_attention`` takes seven times as long to differentiate there in bfloat16
    (28 instead of 4 ms for 64 images of 49 patches).

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        seen: What may be attended to, bool, broadcast to (B, heads, m, n); all by default.
    """
    if not q.is_cpu or q.dtype == torch.float32:
        return scaled_dot_product_attention(q, k, v, seen)
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    if seen is not None:
        scores = scores.masked_fill(~seen, -torch.inf)
    return torch.softmax(scores, -1).to(v.dtype) @ v

r"""Muon: momentum whose singular values are all set to about one, for weights of hidden layers.

Keller Jordan et al., *Muon: An optimizer for hidden layers in neural networks*, 2024; the length of
a step is that of Liu et al., *Muon is Scalable for LLM Training*, 2025, so that the learning rates
of AdamW fit. torch has the same optimizer, but computes it in bfloat16, which a processor without
arithmetic for that has to emulate: twenty times slower than the float32 here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""a, b, c of the polynomial a s + b s^3 + c s^5, which takes small singular values up quickly and
keeps them between 0.7 and 1.2 then."""

ITERATIONS = 5

RMS = 0.2
"""Root mean square of the entries of a step relative to the learning rate; that of AdamW."""


def orthogonalized(matrix: Tensor) -> Tensor:
    """Nearly U V^T of a matrix U S V^T, by Newton-Schulz iterations; (m, n) to (m, n)."""
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonalized(matrix.T).T
    a, b, c = COEFFICIENTS
    x: Tensor = matrix / matrix.norm().clamp(min=1e-7)
    for _ in range(ITERATIONS):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x


class Muon(torch.optim.Optimizer):
    """See the module.

    Args:
        params: Matrices, or groups of them.
        lr: Learning rate.
        weight_decay: Share of a weight that is taken off it, times the learning rate.
    """

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step along the orthogonalized Nesterov momentum of each matrix with a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None):
                state = self.state[p]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(p.grad)
                momentum = state["momentum_buffer"].lerp_(p.grad, 1 - MOMENTUM)
                update = orthogonalized(p.grad.lerp(momentum, MOMENTUM))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update, alpha=-RMS * group["lr"] * max(p.shape) ** 0.5)
        return loss

r"""Muon: momentum whose singular values are all set to about one, for weights of hidden layers.

Keller Jordan et al., *Muon: An optimizer for hidden layers in neural networks*, 2024; the length of
a step is that of Liu et al., *Muon is Scalable for LLM Training*, 2025, so that the learning rates
of AdamW fit. torch has the same optimizer, but goes from matrix to matrix, and always computes in
bfloat16, which a processor without arithmetic for that has to emulate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

MOMENTUM = 0.95

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""a, b, c of the polynomial a s + b s^3 + c s^5, which takes small singular values up quickly and
keeps them between 0.7 and 1.2 then."""

ITERATIONS = 5

RMS = 0.2
"""Root mean square of the entries of a step relative to the learning rate; that of AdamW."""


def orthogonalized(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Nearly U V^T of matrices U S V^T, by Newton-Schulz iterations; (k, m, n) to (k, m, n).

    Args:
        matrices: k of them.
        dtype: What is computed in, and the type of the result.
    """
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonalized(matrices.mT, dtype).mT
    a, b, c = COEFFICIENTS
    x: Tensor = (matrices / matrices.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)).to(dtype)
    for _ in range(ITERATIONS):
        square = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x


def steps(updates: Sequence[Tensor], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """The step of each matrix for a learning rate of 1; those of a shape are computed at once."""
    wide = [update if update.shape[0] <= update.shape[1] else update.mT for update in updates]
    same: dict[torch.Size, list[int]] = {}
    for place, update in enumerate(wide):
        same.setdefault(update.shape, []).append(place)
    for shape, places in same.items():
        stacked = torch.stack([wide[place] for place in places])
        found = RMS * max(shape) ** 0.5 * orthogonalized(stacked, dtype).to(stacked)
        for place, step in zip(places, found.unbind(), strict=True):
            wide[place] = step
    return [
        step if step.shape == update.shape else step.mT
        for step, update in zip(wide, updates, strict=True)
    ]


class Muon(torch.optim.Optimizer):
    """See the module.

    Args:
        params: Matrices, or groups of them.
        lr: Learning rate.
        weight_decay: Share of a weight that is taken off it, times the learning rate.
        dtype: What steps are made orthogonal in; bfloat16 will do where there is hardware for it.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step along the orthogonalized Nesterov momentum of each matrix with a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self._move(params, group["lr"], group["weight_decay"])
        return loss

    def _move(self, params: list[Tensor], rate: float, decay: float) -> None:
        gradients = [cast(Tensor, p.grad) for p in params]
        for p in params:
            if not self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        momenta = [self.state[p]["momentum_buffer"] for p in params]
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        updates = steps(torch._foreach_lerp(gradients, momenta, MOMENTUM), self.dtype)
        torch._foreach_mul_(params, 1 - rate * decay)
        torch._foreach_add_(params, updates, alpha=-rate)

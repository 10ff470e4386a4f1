r"""ReinMax (Liu et al., 2023): straight-through with second-order accuracy.

A hard sample z with the gradient of

.. math:: 2 \pi - u / 2, \qquad \pi = (u + onehot(z)) / 2,

in which :math:`\pi` depends on u as a softmax does on its logits, log u.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from molfldd.core.estimators.base import Estimate, Term, straight_through, sum_blocks


@dataclass(frozen=True)
class ReinMax:
    """Hard samples forward; backward, Heun's method in place of straight-through's Euler step.

    Exact where the KL is quadratic in z_t; biased beyond that.
    """

    kind: Literal["reinmax"] = field(default="reinmax", kw_only=True)

    def __call__(self, term: Term, generator: torch.Generator, progress: float) -> Estimate:
        """See the class."""
        z = {
            name: straight_through(second_order(u, drawn), drawn)
            for (name, u), drawn in zip(
                term.transition.u_t.items(), term.draw(generator).values(), strict=True
            )
        }
        kl = term.relaxed_kl(z)
        return term.estimate(sum_blocks(kl), kl)


def second_order(u: Tensor, drawn: Tensor) -> Tensor:
    """2 pi_1 - u / 2, whose gradient ReinMax uses; pi_1 equals (u + onehot(drawn)) / 2.

    Args:
        u: Probabilities, (..., S).
        drawn: States drawn from them, (...) int64.

    Returns:
        (..., S); pi_1 depends on u as a softmax does on its logits, log u.
    """
    onehot = torch.nn.functional.one_hot(drawn, u.shape[-1]).to(u)
    ratio = torch.where(u > 0, (u + onehot) / (2 * u).clamp(min=1e-30), 0.5).detach()
    weighted = ratio * u
    return 2 * weighted / weighted.sum(-1, keepdim=True) - u / 2

r"""Straight-through Gumbel-softmax.

A Concrete sample rounded, with the gradient of what was rounded:

.. math:: z = onehot(\arg\max_k y^k), \quad \nabla z := \nabla y, \qquad
    y = softmax((\log u_t + g) / \tau), \quad g^k \sim Gumbel.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch

from molfldd.core.estimators.base import Estimate, Term, straight_through, sum_blocks
from molfldd.core.estimators.concrete import concrete


@dataclass(frozen=True)
class StraightThrough:
    """Hard samples forward, the gradient of the Concrete sample that they round backward.

    Both networks see hard states only, so nothing leaks and the KL reported is the true one; the
    gradient of phi is biased.

    Attributes:
        temperature: Of the Concrete sample.
    """

    kind: Literal["straight-through"] = field(default="straight-through", kw_only=True)
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")

    def __call__(self, term: Term, generator: torch.Generator, progress: float) -> Estimate:
        """See the class."""
        z = {}
        for name, u in term.transition.u_t.items():
            soft = concrete(u, self.temperature, generator)
            z[name] = straight_through(soft, soft.argmax(-1))
        kl = term.relaxed_kl(z)
        return term.estimate(sum_blocks(kl), kl)

r"""REINFORCE with the other samples as baseline.

Of K samples z_1, ..., z_K of z_t with their values f_k = KL(z_k), by Eq. (13),

.. math:: \nabla E[f] = E \frac{1}{K} \sum_k \Big[ \nabla f_k + \Big( f_k -
    \frac{1}{K - 1} \sum_{j \ne k} f_j \Big) \nabla \log q(z_k|x) \Big].
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch

from molfldd.core.estimators.base import (
    Estimate,
    Term,
    against_others,
    mean_of_samples,
    score_function,
    sum_blocks,
)


@dataclass(frozen=True)
class LeaveOneOut:
    """REINFORCE with K samples of z_t, each measured against the mean of the others.

    One pass over x, K samples of z_t, one pass of the reverse network over all of them.

    Attributes:
        samples: K, at least 2.
    """

    kind: Literal["leave-one-out"] = field(default="leave-one-out", kw_only=True)
    samples: int = 2

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise ValueError(f"leave-one-out needs at least 2 samples, got {self.samples}")

    def __call__(self, term: Term, generator: torch.Generator, progress: float) -> Estimate:
        """See the class."""
        many = term.repeat(self.samples)
        z = many.draw(generator)
        kl = many.kl(z, generator)
        value = sum_blocks(kl)
        advantage = against_others(value.detach(), self.samples)
        loss = value + score_function(many.log_marginal(z), advantage)
        return many.estimate(loss, mean_of_samples(kl, self.samples))

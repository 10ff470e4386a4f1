r"""No gradient through z_t: :math:`\nabla E[KL(z_t)] \approx E[\nabla KL(z_t)]`.

Exact for theta.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch

from molfldd.core.estimators.base import Estimate, Term, sum_blocks


@dataclass(frozen=True)
class Pathwise:
    """The KL at one hard sample: exact for theta, and for phi only when phi is fixed or frozen."""

    kind: Literal["pathwise"] = field(default="pathwise", kw_only=True)

    def __call__(self, term: Term, generator: torch.Generator, progress: float) -> Estimate:
        """See the class."""
        kl = term.kl(term.draw(generator), generator)
        return term.estimate(sum_blocks(kl), kl)

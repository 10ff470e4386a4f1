r"""Plain REINFORCE: Eq. (13) and Algorithm 1.

.. math:: \nabla E[KL(z_t)] = E[\nabla KL(z_t) + KL(z_t) \nabla \log q(z_t|x)].
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch

from molfldd.core.estimators.base import Estimate, Term, score_function, sum_blocks


@dataclass(frozen=True)
class Reinforce:
    """The KL at one hard sample, weighted by q(z_t|x) / sg[q(z_t|x)].

    The weight has the value 1 and the gradient grad log q(z_t|x).
    """

    kind: Literal["reinforce"] = field(default="reinforce", kw_only=True)

    def __call__(self, term: Term, generator: torch.Generator, progress: float) -> Estimate:
        """See the class."""
        z = term.draw(generator)
        kl = term.kl(z, generator)
        value = sum_blocks(kl)
        return term.estimate(value + score_function(term.log_marginal(z), value), kl)

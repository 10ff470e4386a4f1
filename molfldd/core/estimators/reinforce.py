r"""Plain REINFORCE: Eq. (13) and Algorithm 1.

.. math:: \nabla E[KL(z_t)] = E[\nabla KL(z_t) + KL(z_t) \nabla \log q(z_t|x)].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from molfldd.core.estimators.base import Estimate, Term, sum_blocks


@dataclass(frozen=True)
class Reinforce:
    """The KL at one hard sample, weighted by q(z_t|x) / sg[q(z_t|x)].

    The weight has value 1 and gradient grad log q(z_t|x), so it is added in that form.
    """

    kind: Literal["reinforce"] = "reinforce"

    def __call__(self, term: Term, generator: torch.Generator, progress: float) -> Estimate:
        """See the class."""
        z = term.draw(generator)
        kl = term.kl(z, generator)
        value = sum_blocks(kl)
        return term.estimate(value + term.log_marginal(z) * value.detach(), kl)

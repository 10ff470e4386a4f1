r"""The relaxed warm-up: Concrete samples and the relaxed posterior of Eq. (14).

.. math:: z_t = softmax((\log u_t + g) / \tau), \quad g^k \sim Gumbel,

with a temperature tau that falls towards 0, where the sample is a hard one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from molfldd.core.estimators.base import Estimate, Term, sum_blocks


@dataclass(frozen=True)
class ConcreteRelaxation:
    """The KL at one soft sample of z_t; gradients flow through it.

    The temperature falls exponentially over the phase. Biased: the KL it reports is that of soft
    samples, which tell the reverse network more about x than hard ones do.

    Attributes:
        start: Temperature at the beginning of the phase.
        end: Temperature at its end.
    """

    kind: Literal["concrete"] = field(default="concrete", kw_only=True)
    start: float = 1.0
    end: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 < self.end <= self.start:
            raise ValueError(f"temperatures must fall from {self.start} to a positive {self.end}")

    def temperature(self, progress: float) -> float:
        """start * (end / start) ** progress."""
        return float(self.start * (self.end / self.start) ** progress)

    def __call__(self, term: Term, generator: torch.Generator, progress: float) -> Estimate:
        """See the class."""
        tau = self.temperature(progress)
        z = {name: concrete(u, tau, generator) for name, u in term.transition.u_t.items()}
        kl = term.relaxed_kl(z)
        return term.estimate(sum_blocks(kl), kl)


def concrete(u: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """A sample of the Concrete distribution with parameters u; (..., S) to (..., S).

    States of probability zero keep exactly zero mass.
    """
    uniform = torch.rand(u.shape, generator=generator, device=u.device)
    gumbel = -(-uniform.clamp(1e-20, 1 - 1e-7).log()).log()
    positive = u > 0
    log_u = torch.where(positive, torch.where(positive, u, 1.0).log(), -torch.inf)
    return torch.softmax((log_u + gumbel) / temperature, -1)

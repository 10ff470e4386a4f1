"""Two consecutive marginals of the forward process and the plan between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from molfldd.core.blocks import Codes, Prior, Probs, draw
from molfldd.core.coupling import Plan, maximum_coupling, ratio


@dataclass(frozen=True)
class Transition:
    """Two consecutive marginals and the plan between them.

    Attributes:
        u_s: q(z_s | x), (B, n, S) per block.
        u_t: q(z_t | x), (B, n, S) per block.
        couplings: The plan of each block from u_t to u_s.
    """

    u_s: Probs
    u_t: Probs
    couplings: Mapping[str, Plan]

    def posterior(self, z: Probs) -> dict[str, Tensor]:
        """q(z_s | z_t, x) at one-hot states or simplex points, (B, n, S) per block."""
        return {name: plan.posterior(z[name]) for name, plan in self.couplings.items()}

    def draw(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Hard samples of z_t, (B, n) int64 per block."""
        return {
            name: draw(u.detach(), _uniform(u[..., 0], generator)) for name, u in self.u_t.items()
        }

    def probability(self, z: Codes) -> dict[str, Tensor]:
        """q(z_t = z | x) of every element, (B, n) per block; differentiable in phi."""
        return {
            name: u.gather(-1, z[name].unsqueeze(-1)).squeeze(-1) for name, u in self.u_t.items()
        }

    def repeat(self, times: int) -> Transition:
        """The transition of a batch repeated ``times`` times (see ``Batch.repeat``)."""
        return Transition(
            {name: u.repeat(times, 1, 1) for name, u in self.u_s.items()},
            {name: u.repeat(times, 1, 1) for name, u in self.u_t.items()},
            {name: plan.repeat(times) for name, plan in self.couplings.items()},
        )


@dataclass(frozen=True)
class MaskingTransition:
    """A transition that only masks: q(z_t | x) puts p_t on the mask and the rest on x itself.

    Two numbers per element say all, however many states there are, so neither memory nor time
    grows with S. Whole distributions are made for who asks for them.

    Attributes:
        codes: The data x, (B, n) int64 per block.
        masked_s: P(z_s = mask | x), (B, n) per block.
        masked_t: P(z_t = mask | x), (B, n) per block, nowhere less than ``masked_s``.
        prior: The absorbing prior; its last state is the mask.
    """

    codes: Codes
    masked_s: Mapping[str, Tensor]
    masked_t: Mapping[str, Tensor]
    prior: Prior

    @cached_property
    def u_s(self) -> Probs:
        """q(z_s | x), (B, n, S) per block."""
        return two_points(self.codes, self.masked_s, self.prior)

    @cached_property
    def u_t(self) -> Probs:
        """q(z_t | x), (B, n, S) per block."""
        return two_points(self.codes, self.masked_t, self.prior)

    @cached_property
    def couplings(self) -> Mapping[str, Plan]:
        """The plan of each block from u_t to u_s, by Eq. (11)."""
        return {name: maximum_coupling(self.u_s[name], u) for name, u in self.u_t.items()}

    def posterior(self, z: Probs) -> dict[str, Tensor]:
        """q(z_s | z_t, x) at one-hot states or simplex points, (B, n, S) per block."""
        return {name: plan.posterior(z[name]) for name, plan in self.couplings.items()}

    def stays_masked(self) -> dict[str, Tensor]:
        """q(z_s = mask | z_t = mask, x) = p_s / p_t, (B, n) per block: Eq. (11) for masking."""
        return {
            name: ratio(self.masked_s[name], p).clamp(max=1.0) for name, p in self.masked_t.items()
        }

    def is_masked(self, z: Codes) -> dict[str, Tensor]:
        """Whether an element is masked in z (B, n), (B, n) bool per block."""
        return {name: states == self.prior.states(name) - 1 for name, states in z.items()}

    def draw(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Hard samples of z_t, (B, n) int64 per block; as ``Transition`` draws them."""
        return {
            name: torch.where(
                _uniform(p, generator) < 1 - p, self.codes[name], self.prior.states(name) - 1
            )
            for name, p in self.masked_t.items()
        }

    def probability(self, z: Codes) -> dict[str, Tensor]:
        """q(z_t = z | x) of every element, (B, n) per block; differentiable in phi."""
        masked = self.is_masked(z)
        return {
            name: torch.where(masked[name], p, torch.where(z[name] == self.codes[name], 1 - p, 0.0))
            for name, p in self.masked_t.items()
        }

    def repeat(self, times: int) -> MaskingTransition:
        """The transition of a batch repeated ``times`` times (see ``Batch.repeat``)."""

        def repeated(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: part.repeat(times, 1) for name, part in parts.items()}

        return MaskingTransition(
            repeated(self.codes), repeated(self.masked_s), repeated(self.masked_t), self.prior
        )


def two_points(codes: Codes, masked: Mapping[str, Tensor], prior: Prior) -> dict[str, Tensor]:
    """(1 - p) onehot(x) + p mask, for x and p (B, n) per block; (B, n, S) per block."""
    x = prior.onehot(codes)
    return {
        name: (1 - p[..., None]) * x[name] + p[..., None] * prior.probs[name]
        for name, p in masked.items()
    }


def _uniform(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(like.shape, generator=generator, device=like.device)

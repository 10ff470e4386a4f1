"""Gradient estimators of the bound: how the gradient reaches phi through discrete samples.

Each estimator turns a batch and one step per example into a loss whose gradient estimates that
of the bound, T times the KL at the step (Eq. (12)). The pathwise part through u_s and u_t inside
the KL is common to all; they differ in the part that goes through z_t.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from molfldd.core.blocks import Batch, Codes, Probs, total
from molfldd.core.bound import step_kl
from molfldd.core.diffusion import Diffusion
from molfldd.core.forward.base import Transition


@dataclass(frozen=True)
class Estimate:
    """What one evaluation of an estimator gives.

    Attributes:
        loss: Scalar in nats per example; differentiate this.
        kl: KL of each block at the step of each example, (B,) per block, without gradient.
    """

    loss: Tensor
    kl: dict[str, Tensor]


class Estimator(Protocol):
    """A gradient estimator."""

    def __call__(
        self,
        diffusion: Diffusion,
        batch: Batch,
        t: Tensor,
        generator: torch.Generator,
        progress: float,
    ) -> Estimate:
        """The estimate for examples at steps t (B,); ``progress`` in [0, 1] is the phase's."""


def log_marginal(u_t: Probs, z: Codes, batch: Batch) -> Tensor:
    """log q(z_t | x) of Eq. (9), summed over all elements, (B,) nats."""
    chosen = {name: u.gather(-1, z[name].unsqueeze(-1)).squeeze(-1) for name, u in u_t.items()}
    return total({name: c.clamp(min=1e-30).log() for name, c in chosen.items()}, batch.mask)


def _transition(diffusion: Diffusion, batch: Batch, t: Tensor) -> Transition:
    encoding = diffusion.forward_process.encode(batch)
    return diffusion.forward_process.transition(batch, encoding, t)


def _hard_kl(
    diffusion: Diffusion, batch: Batch, transition: Transition, z: Codes, t: Tensor
) -> dict[str, Tensor]:
    onehot = diffusion.prior.onehot(z)
    return step_kl(diffusion, batch, transition.posterior(onehot), onehot, t)


def _sum_blocks(kl: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(kl.values())).sum(0)


def _detach(kl: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: k.detach() for name, k in kl.items()}


@dataclass(frozen=True)
class Pathwise:
    """No term for z_t: exact for theta, and for phi only when phi is fixed or frozen."""

    kind: Literal["pathwise"] = "pathwise"

    def __call__(
        self,
        diffusion: Diffusion,
        batch: Batch,
        t: Tensor,
        generator: torch.Generator,
        progress: float,
    ) -> Estimate:
        """KL at one hard sample."""
        transition = _transition(diffusion, batch, t)
        z = diffusion.draw(transition.u_t, generator)
        kl = _hard_kl(diffusion, batch, transition, z, t)
        return Estimate(diffusion.steps * _sum_blocks(kl).mean(), _detach(kl))


@dataclass(frozen=True)
class Reinforce:
    """Eq. (13) and Algorithm 1: the KL at one hard sample, weighted by q(z_t|x) / sg[q(z_t|x)]."""

    kind: Literal["reinforce"] = "reinforce"

    def __call__(
        self,
        diffusion: Diffusion,
        batch: Batch,
        t: Tensor,
        generator: torch.Generator,
        progress: float,
    ) -> Estimate:
        """The weight has value 1 and gradient grad log q, so it is added in that form."""
        transition = _transition(diffusion, batch, t)
        z = diffusion.draw(transition.u_t, generator)
        kl = _hard_kl(diffusion, batch, transition, z, t)
        value = _sum_blocks(kl)
        surrogate = value + log_marginal(transition.u_t, z, batch) * value.detach()
        return Estimate(diffusion.steps * surrogate.mean(), _detach(kl))


@dataclass(frozen=True)
class LeaveOneOut:
    """REINFORCE with K samples of z_t, each measured against the mean of the others.

    The baseline does not depend on the sample it is subtracted from: the estimate stays unbiased
    and its variance falls.

    Attributes:
        samples: K, at least 2.
    """

    kind: Literal["leave-one-out"] = "leave-one-out"
    samples: int = 2

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise ValueError(f"leave-one-out needs at least 2 samples, got {self.samples}")

    def __call__(
        self,
        diffusion: Diffusion,
        batch: Batch,
        t: Tensor,
        generator: torch.Generator,
        progress: float,
    ) -> Estimate:
        """One pass over x, K samples of z_t, one pass of the reverse network over all of them."""
        k = self.samples
        transition = _transition(diffusion, batch, t).repeat(k)
        many, t = batch.repeat(k), t.repeat(k)
        z = diffusion.draw(transition.u_t, generator)
        kl = _hard_kl(diffusion, many, transition, z, t)
        value = _sum_blocks(kl)
        rows = value.detach().view(k, -1)
        advantage = (rows - (rows.sum(0) - rows) / (k - 1)).flatten()
        surrogate = value + log_marginal(transition.u_t, z, many) * advantage
        means = {name: v.detach().view(k, -1).mean(0) for name, v in kl.items()}
        return Estimate(diffusion.steps * surrogate.mean(), means)


@dataclass(frozen=True)
class ConcreteRelaxation:
    """The relaxed warm-up: Concrete samples of z_t and the posterior of Eq. (14).

    The temperature falls exponentially over the phase. Biased: the KL it reports is that of soft
    samples, which tell the reverse network more about x than hard ones do.

    Attributes:
        start: Temperature at the beginning of the phase.
        end: Temperature at its end.
    """

    kind: Literal["concrete"] = "concrete"
    start: float = 1.0
    end: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 < self.end <= self.start:
            raise ValueError(f"temperatures must fall from {self.start} to a positive {self.end}")

    def temperature(self, progress: float) -> float:
        """start * (end / start) ** progress."""
        return float(self.start * (self.end / self.start) ** progress)

    def __call__(
        self,
        diffusion: Diffusion,
        batch: Batch,
        t: Tensor,
        generator: torch.Generator,
        progress: float,
    ) -> Estimate:
        """KL at one soft sample; gradients flow through it."""
        transition = _transition(diffusion, batch, t)
        tau = self.temperature(progress)
        z = {name: concrete(u, tau, generator) for name, u in transition.u_t.items()}
        kl = step_kl(diffusion, batch, transition.posterior(z), z, t)
        return Estimate(diffusion.steps * _sum_blocks(kl).mean(), _detach(kl))


def concrete(u: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """A sample of the Concrete distribution with parameters u; (..., S) to (..., S).

    States of probability zero keep exactly zero mass.
    """
    uniform = torch.rand(u.shape, generator=generator, device=u.device)
    gumbel = -(-uniform.clamp(1e-20, 1 - 1e-7).log()).log()
    positive = u > 0
    log_u = torch.where(positive, torch.where(positive, u, 1.0).log(), -torch.inf)
    return torch.softmax((log_u + gumbel) / temperature, -1)

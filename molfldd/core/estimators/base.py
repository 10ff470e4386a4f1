"""What all gradient estimators share: the term of the bound they estimate, and their result."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from molfldd.core.blocks import Batch, Codes, total
from molfldd.core.bound import relaxed_step_kl, step_kl
from molfldd.core.diffusion import Diffusion
from molfldd.core.forward import MaskingTransition, Transition


@dataclass(frozen=True)
class Term:
    """The bound's term of one random step per example: T KL(q(z_s|z_t,x) || p(z_s|z_t)), Eq. (12).

    Attributes:
        diffusion: Both processes.
        batch: The examples x, B of them.
        t: Their steps, (B,) int64 in 1..T.
        transition: Marginals u_s, u_t and the plan between them; differentiable in phi.
        weights: Of each step in the loss, (T,), see ``Clock.weights``; all 1 by default.
    """

    diffusion: Diffusion
    batch: Batch
    t: Tensor
    transition: Transition | MaskingTransition
    weights: Tensor | None = None

    @classmethod
    def of(
        cls, diffusion: Diffusion, batch: Batch, t: Tensor, weights: Tensor | None = None
    ) -> Term:
        """Every example at M steps, for which the forward network reads it once.

        Args:
            diffusion: Both processes.
            batch: The examples x, N of them.
            t: A step of every example, then another of every example, ..., (M * N,) int64 in 1..T.
            weights: See the class.

        Raises:
            ValueError: for a step 0, or if the steps are no multiple of the examples.
        """
        each, left = divmod(len(t), len(batch))
        if left or int(t.min()) < 1:
            raise ValueError(
                f"there are {len(t)} steps, the least of them {int(t.min())}, for {len(batch)} "
                "examples; each example needs as many, from 1 on"
            )
        forward = diffusion.forward_process
        encoding = {name: e.repeat(each, 1, 1) for name, e in forward.encode(batch).items()}
        many = batch.repeat(each)
        return cls(diffusion, many, t, forward.transition(many, encoding, t), weights)

    def repeat(self, times: int) -> Term:
        """The term ``times`` times over, from one pass over x."""
        return replace(
            self,
            batch=self.batch.repeat(times),
            t=self.t.repeat(times),
            transition=self.transition.repeat(times),
        )

    def draw(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Hard samples of z_t, (B, n) int64 per block."""
        return self.transition.draw(generator)

    def kl(self, z: Codes, generator: torch.Generator) -> dict[str, Tensor]:
        """The KL at hard states z (B, n), nats per example, (B,) per block; see ``step_kl``."""
        return step_kl(self.diffusion, self.batch, self.transition, z, self.t, generator)

    def relaxed_kl(self, z: dict[str, Tensor]) -> dict[str, Tensor]:
        """The KL at one-hot states or simplex points (B, n, S), by Eq. (14); (B,) per block."""
        return relaxed_step_kl(self.diffusion, self.batch, self.transition, z, self.t)

    def log_marginal(self, z: Codes) -> Tensor:
        """log q(z_t | x) of Eq. (9), summed over all elements, (B,) nats."""
        return log_marginal(self.transition, z, self.batch)

    def estimate(self, per_example: Tensor, kl: dict[str, Tensor]) -> Estimate:
        """T times a surrogate (B,), its mean, with the KL it stands for."""
        factor = self.diffusion.clock.length(self.t)
        if self.weights is not None:
            factor = factor * self.weights[self.t - 1]
        loss = (factor * per_example).mean()
        return Estimate(loss, {name: k.detach() for name, k in kl.items()})


@dataclass(frozen=True)
class Estimate:
    """What one evaluation of an estimator gives.

    Attributes:
        loss: T KL at the sampled steps, the mean over examples, nats (the size term -log p(n) is
            not part of it); its gradient is the estimate.
        kl: KL of each block at the step of each example, (B,) per block, without gradient.
    """

    loss: Tensor
    kl: dict[str, Tensor]


class Estimator(Protocol):
    """A gradient estimator."""

    def __call__(self, term: Term, generator: torch.Generator, progress: float) -> Estimate:
        """The estimate; ``progress`` in [0, 1] is how far the phase of training has come."""


def log_marginal(transition: Transition | MaskingTransition, z: Codes, batch: Batch) -> Tensor:
    """log q(z_t | x) of Eq. (9), summed over all elements, (B,) nats."""
    chosen = transition.probability(z)
    return total({name: p.clamp(min=1e-30).log() for name, p in chosen.items()}, batch.mask)


def sum_blocks(kl: dict[str, Tensor]) -> Tensor:
    """Sum over blocks, (B,) per block to (B,)."""
    return torch.stack(list(kl.values())).sum(0)


def score_function(log_q: Tensor, weight: Tensor) -> Tensor:
    """0, with the gradient weight * grad log q: the weight of Eq. (13) has the value 1; (B,)."""
    return (log_q - log_q.detach()) * weight.detach()


def gradient_only(value: Tensor) -> Tensor:
    """0, with the gradient of a tensor; the same shape."""
    return value - value.detach()


def mean_of_samples(kl: dict[str, Tensor], samples: int) -> dict[str, Tensor]:
    """Mean over the K samples of each example, (K * B,) per block to (B,)."""
    return {name: k.view(samples, -1).mean(0) for name, k in kl.items()}


def against_others(values: Tensor, samples: int) -> Tensor:
    """Each of K samples minus the mean of the others, (K * B,) to (K * B,); K = 1 changes nothing.

    The mean of the others does not depend on the sample, so subtracting it keeps REINFORCE
    unbiased.
    """
    if samples == 1:
        return values
    rows = values.view(samples, -1)
    return (rows - (rows.sum(0) - rows) / (samples - 1)).flatten()


def straight_through(soft: Tensor, drawn: Tensor) -> Tensor:
    """One-hot states with the gradient of ``soft``; (..., S) and (...) int64 to (..., S)."""
    hard = torch.nn.functional.one_hot(drawn, soft.shape[-1]).to(soft)
    return hard + (soft - soft.detach())

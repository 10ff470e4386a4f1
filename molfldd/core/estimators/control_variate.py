r"""REINFORCE with a learned additive control variate.

Noise changes some elements of x and leaves the others. How much each changed element adds to the
KL is learned by regression while training runs,

.. math:: c(z_t) = const_t + \sum_i effect_t^i \, [z_t^i \ne x^i],

and since c is additive, its expectation under the factorized q(z_t|x) is exact:
const + sum_i effect^i P(z_t^i != x^i). REINFORCE is then needed for what is left only:

.. math:: \nabla E[KL] = E[\nabla KL + (KL - c) \nabla \log q(z_t|x)] + \nabla E[c].

It stays unbiased whatever the effects are; the better they fit, the lower the variance. The paper
names such control variates as open work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from molfldd.core.blocks import Codes, total
from molfldd.core.diffusion import Diffusion
from molfldd.core.estimators.base import (
    Estimate,
    Term,
    against_others,
    gradient_only,
    mean_of_samples,
    score_function,
    sum_blocks,
)

FIT = 1e-3
"""Weight of the regression in the loss; an adaptive optimizer does not see it."""


class AdditiveEffects(nn.Module):
    """c(z_t): a table of effects by step and position, plus one by step and data category.

    Args:
        steps: T.
        categories: Data categories of each block.
        lengths: The largest number of elements of each block.
    """

    def __init__(
        self, steps: int, categories: Mapping[str, int], lengths: Mapping[str, int]
    ) -> None:
        super().__init__()
        self.constant = nn.Parameter(torch.zeros(steps))
        self.by_position = nn.ParameterDict({b: torch.zeros(steps, n) for b, n in lengths.items()})
        self.by_category = nn.ParameterDict(
            {b: torch.zeros(steps, k) for b, k in categories.items()}
        )

    def effects(self, term: Term) -> dict[str, Tensor]:
        """What each element adds to the KL when it is changed, nats, (B, n) per block."""
        rows = term.t - 1
        return {
            name: self.by_position[name][rows, : x.shape[1]]
            + self.by_category[name][rows].gather(1, x)
            for name, x in term.batch.codes.items()
        }

    def value(self, term: Term, z: Codes) -> Tensor:
        """c at states z (B, n), (B,); differentiable in the effects."""
        changed = {name: z[name] != x for name, x in term.batch.codes.items()}
        added = {name: e * changed[name] for name, e in self.effects(term).items()}
        return self.constant[term.t - 1] + total(added, term.batch.mask)

    def expectation(self, term: Term) -> Tensor:
        """E_q(z_t|x) of c without the constant, (B,); differentiable in phi only."""
        kept = term.transition.probability(term.batch.codes)
        added = {name: e.detach() * (1 - kept[name]) for name, e in self.effects(term).items()}
        return total(added, term.batch.mask)


class WithEffects(nn.Module):
    """The estimator with its parameters.

    Args:
        samples: K; from 2 on, leave-one-out on top.
        effects: The control variate.
    """

    def __init__(self, samples: int, effects: AdditiveEffects) -> None:
        super().__init__()
        self.samples = samples
        self.effects = effects

    def forward(self, term: Term, generator: torch.Generator, progress: float) -> Estimate:
        """See the module; the gradient also fits the effects."""
        many = term.repeat(self.samples)
        z = many.draw(generator)
        kl = many.kl(z, generator)
        value = sum_blocks(kl)
        left = against_others(value.detach() - self.effects.value(many, z), self.samples)
        score = score_function(many.log_marginal(z), left)
        exact = gradient_only(self.effects.expectation(many))
        estimate = many.estimate(value + score + exact, mean_of_samples(kl, self.samples))
        return replace(estimate, loss=estimate.loss + gradient_only(FIT * left.square().mean()))


@dataclass(frozen=True)
class ControlVariate:
    """Describes the estimator; ``WithEffects`` is the estimator itself.

    Attributes:
        samples: K, samples of z_t per example.
        learning_rate: Of the effects.
    """

    kind: Literal["control-variate"] = field(default="control-variate", kw_only=True)
    samples: int = 2
    learning_rate: float = 1e-2

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"the control variate needs at least 1 sample, got {self.samples}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")

    def build(self, diffusion: Diffusion, sizes: Tensor) -> WithEffects:
        """The estimator with all effects zero, for examples of the given sizes (N,)."""
        categories = {block.name: block.categories for block in diffusion.blocks}
        lengths = {block.name: int(block.length(sizes).max()) for block in diffusion.blocks}
        return WithEffects(self.samples, AdditiveEffects(diffusion.steps, categories, lengths))

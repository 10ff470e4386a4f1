"""Conventional discrete diffusion: a fixed Markov forward process, Eq. (2)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from molfldd.core.blocks import Batch, Block, Prior, Probs
from molfldd.core.clock import Steps
from molfldd.core.coupling import Plan, markov_coupling, ratio
from molfldd.core.forward.base import ForwardProcess, interpolate
from molfldd.core.forward.transitions import MaskingTransition, Transition


class FixedForward(ForwardProcess):
    """u_t = (1 - t/T) onehot(x) + (t/T) prior, with the posterior of the Markov chain.

    The prior makes it uniform, marginal or absorbing (masked) diffusion.
    """

    def __init__(self, blocks: Sequence[Block], prior: Prior, steps: Steps) -> None:
        super().__init__(blocks, prior, steps)
        self._masks = prior.absorbing

    @property
    def only_masks(self) -> bool:
        """With an absorbing prior."""
        return self._masks

    def kept(self, t: Tensor) -> Tensor:
        """Probability that an element has not been touched by step t, (B,)."""
        return 1 - self.clock.fraction(t)

    def interior(self, batch: Batch, encoding: Probs, t: Tensor) -> dict[str, Tensor]:
        """The same mixture for every element; see the class."""
        return interpolate(self.prior.onehot(batch.codes), self.prior, self.kept(t))

    def transition(
        self, batch: Batch, encoding: Probs, t: Tensor
    ) -> Transition | MaskingTransition:
        """Marginals at t in 1..T and at s before it, and the plan between them."""
        if not self.only_masks:
            return self.whole_transition(batch, encoding, t)

        def masked(step: Tensor) -> dict[str, Tensor]:
            p = 1 - self.kept(step)[:, None]
            return {name: p.expand(x.shape) for name, x in batch.codes.items()}

        return MaskingTransition(batch.codes, masked(self.clock.before(t)), masked(t), self.prior)

    def couple(self, u_s: Probs, u_t: Probs, t: Tensor) -> dict[str, Plan]:
        """Bayes' rule for the Markov chain."""
        stay = ratio(self.kept(t), self.kept(self.clock.before(t)))[:, None, None]
        return {
            name: markov_coupling(u_s[name], u, stay, self.prior.probs[name])
            for name, u in u_t.items()
        }

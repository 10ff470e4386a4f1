"""Conventional discrete diffusion: a fixed Markov forward process, Eq. (2)."""

from __future__ import annotations

from torch import Tensor

from molfldd.core.blocks import Batch, Probs
from molfldd.core.coupling import Coupling, markov_coupling, ratio
from molfldd.core.forward.base import ForwardProcess, interpolate


class FixedForward(ForwardProcess):
    """u_t = (1 - t/T) onehot(x) + (t/T) prior, with the posterior of the Markov chain.

    The prior makes it uniform, marginal or absorbing (masked) diffusion.
    """

    def kept(self, t: Tensor) -> Tensor:
        """Probability that an element has not been touched by step t, (B,)."""
        return 1 - t / self.steps

    def interior(self, batch: Batch, encoding: Probs, t: Tensor) -> dict[str, Tensor]:
        """The same mixture for every element; see the class."""
        return interpolate(self.prior.onehot(batch.codes), self.prior, self.kept(t))

    def couple(self, u_s: Probs, u_t: Probs, t: Tensor) -> dict[str, Coupling]:
        """Bayes' rule for the Markov chain."""
        stay = ratio(self.kept(t), self.kept(t - 1))[:, None, None]
        return {
            name: markov_coupling(u_s[name], u, stay, self.prior.probs[name])
            for name, u in u_t.items()
        }

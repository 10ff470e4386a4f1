"""What both processes do to points, exactly: sums over all cells instead of samples.

With two coordinates of K categories a state has K^2 values, few enough to visit them all.
"""

from __future__ import annotations

import torch
from torch import Tensor

from molfldd.core.blocks import Batch, Prior
from molfldd.core.forward import ForwardProcess
from molfldd.core.reverse import FactorizedReverse
from molfldd.toy.network import COORDINATES


def all_points(states: int) -> Batch:
    """Every point (i, j), row after row, as a batch of states^2 examples."""
    axis = torch.arange(states)
    codes = torch.cartesian_prod(axis, axis)
    mask = torch.ones_like(codes, dtype=torch.bool)
    return Batch({COORDINATES: codes}, {COORDINATES: mask}, torch.full((len(codes),), 2))


def mixed(weights: Tensor, factors: Tensor) -> Tensor:
    """The mixture of factorized distributions.

    Args:
        weights: Probability of each, in any shape with M entries.
        factors: Distribution of both coordinates, (M, 2, S).

    Returns:
        Probabilities of every point, (S, S) float64.
    """
    first, second = factors.double().unbind(1)
    return torch.einsum("m,mi,mj->ij", weights.double().flatten(), first, second)


@torch.no_grad()
def generated(reverse: FactorizedReverse, prior: Prior) -> list[Tensor]:
    """p_theta(z_t) for t = T, ..., 0, each (S, S) float64: Eq. (7) summed over z_t.

    Args:
        reverse: p_theta, on the CPU.
        prior: p(z_T).
    """
    z = all_points(prior.states(COORDINATES))
    onehot = prior.onehot(z.codes)
    noise = prior.probs[COORDINATES]
    distributions = [torch.outer(noise, noise).double()]
    for step in reversed(reverse.clock.steps(reverse.clock.walks[0])):
        t = torch.full_like(z.sizes, step)
        law = reverse.law(onehot, z.mask, t)
        weights = law.log_weights.exp() * distributions[-1].flatten()
        distributions.append(mixed(weights, law.log_probs[COORDINATES].exp().flatten(0, 1)))
    return distributions


@torch.no_grad()
def noised(forward: ForwardProcess, data: Tensor) -> list[Tensor]:
    """q_phi(z_t) of the first walk, t = T, ..., 0, each (S, S) float64: Eq. (9) over the data.

    Args:
        forward: q_phi, on the CPU.
        data: Probabilities of the data, (K, K).
    """
    x = all_points(len(data))
    encoding = forward.encode(x)
    last = forward.clock.walks[0]
    steps = (torch.full_like(x.sizes, t) for t in range(last, -1, -1))
    return [mixed(data, forward.marginal(x, encoding, t)[COORDINATES]) for t in steps]

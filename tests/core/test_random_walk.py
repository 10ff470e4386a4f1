"""Section 3 of the paper: two factorized steps generate a random walk exactly, z_1 its increments.

The solution lies within the free marginals and the direct reverse process: networks set by hand.
"""

import itertools
import math
from collections.abc import Mapping

import pytest
import torch
from tiny import exact_bound, exact_model
from torch import Tensor, nn

from molfldd.core.blocks import Batch, Block, masks, uniform_prior
from molfldd.core.diffusion import Diffusion
from molfldd.core.forward import FreeForward
from molfldd.core.reverse import DirectReverse

LENGTH = 3
BLOCK = Block("positions", 2 * LENGTH - 1, torch.Tensor.clone)
CERTAIN = 20.0
"""A logit next to which the others are nothing."""


class Increments(nn.Module):
    """x to z_1: at the first position where the walk is, at the others 1 for up and 0 for down."""

    def forward(
        self, values: Mapping[str, Tensor], mask: Mapping[str, Tensor], time: Tensor
    ) -> dict[str, Tensor]:
        x = values["positions"].argmax(-1)
        codes = torch.cat([x[:, :1], (x.diff(dim=1) > 0).long()], 1)
        return {"positions": CERTAIN * nn.functional.one_hot(codes, BLOCK.categories).float()}


class PrefixSums(nn.Module):
    """z_2 to fair coins, and z_1 to x."""

    def forward(
        self, values: Mapping[str, Tensor], mask: Mapping[str, Tensor], time: Tensor
    ) -> dict[str, Tensor]:
        z = values["positions"].argmax(-1)
        start = torch.full_like(z[:, :1], LENGTH - 1)
        walk = torch.cat([start, start + (2 * z[:, 1:] - 1).cumsum(1)], 1)
        last = nn.functional.one_hot(walk.clamp(0, BLOCK.categories - 1), BLOCK.categories)
        coins = torch.zeros_like(values["positions"])
        coins[:, 0, LENGTH - 1] = 1.0
        coins[:, 1:, :2] = 1.0
        return {"positions": CERTAIN * torch.where((time < 1)[:, None, None], last, coins)}


@pytest.fixture
def solution() -> Diffusion:
    prior = uniform_prior([BLOCK])
    reverse = DirectReverse([BLOCK], prior, 2, lambda *_: PrefixSums())
    with torch.no_grad():
        for skip in reverse.skip.values():
            skip.zero_()
    return Diffusion(FreeForward([BLOCK], prior, 2, lambda *_: Increments()), reverse)


def walks() -> Tensor:
    steps = torch.tensor(list(itertools.product((-1, 1), repeat=LENGTH - 1)))
    return nn.functional.pad(steps.cumsum(1), (1, 0)) + LENGTH - 1


def test_the_bound_is_the_entropy_of_the_walks(solution: Diffusion) -> None:
    x, sizes = walks(), torch.full((len(walks()),), LENGTH)
    batch = Batch({"positions": x}, masks((BLOCK,), sizes), sizes)
    expected = torch.full((len(x),), (LENGTH - 1) * math.log(2))
    torch.testing.assert_close(exact_bound(solution, batch), expected)


def test_the_walks_and_nothing_else_are_generated(solution: Diffusion) -> None:
    with torch.no_grad():
        states, p = exact_model(solution.reverse, solution.prior, LENGTH)
    rows = (states.codes["positions"][:, None] == walks()).all(-1).any(1)
    torch.testing.assert_close(p[rows], torch.full((len(walks()),), 1 / len(walks())))
    assert float(p[~rows].sum()) < 1e-6

"""Total correlation of what a step reveals, against its sum over all states and revealed sets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product

import pytest
import torch
from tiny import ONE_BLOCK, build_diffusion, random_batch
from torch import Tensor, nn

from molfldd.core.blocks import Batch
from molfldd.core.dependence import surprisals
from molfldd.core.diffusion import Diffusion
from molfldd.core.forward import MaskingTransition
from molfldd.core.reverse import UnmaskingReverse

STEPS, SIZE = 3, 3
X = torch.tensor(list(product(range(2), repeat=SIZE)))


class Conditionals(nn.Module):
    """The exact p(x^i | what is not masked) of a law over three letters."""

    def __init__(self, p: Tensor) -> None:
        super().__init__()
        self.p = p

    def forward(
        self, values: Mapping[str, Tensor], mask: Mapping[str, Tensor], time: Tensor
    ) -> dict[str, Tensor]:
        z = values["letters"].argmax(-1)
        agrees = ((z[:, None] == X) | (z[:, None] == 2)).all(-1)
        weight = self.p * agrees
        share = torch.stack([(weight[:, None] * (k == X.T)).sum(-1) for k in range(2)], -1)
        logits = share.clamp(min=1e-30).log()
        return {"letters": torch.cat([logits, torch.zeros_like(logits[..., :1])], -1)}


def problem(p: Tensor, kind: str) -> tuple[Diffusion, Batch]:
    """All eight examples, and a reverse process that knows their law p."""
    forward = build_diffusion(kind, STEPS, blocks=ONE_BLOCK).forward_process
    reverse = UnmaskingReverse(ONE_BLOCK, forward.prior, STEPS, lambda i, o: Conditionals(p))
    full = torch.ones(len(X), SIZE, dtype=torch.bool)
    return Diffusion(forward, reverse), Batch(
        {"letters": X}, {"letters": full}, torch.full((len(X),), SIZE)
    )


def total_correlation(p: Tensor, transition: MaskingTransition, row: int) -> tuple[float, float]:
    """Of the values that a step reveals of one example: their cost at once, and as one."""
    p_t, stay = transition.masked_t["letters"][row], transition.stays_masked()["letters"][row]
    at_once = together = 0.0
    for fate in product(("seen", "stays", "revealed"), repeat=SIZE):
        each = {"seen": 1 - p_t, "stays": p_t * stay, "revealed": p_t * (1 - stay)}
        chance = math.prod(float(each[what][i]) for i, what in enumerate(fate))
        seen = probability(p, row, [i for i in range(SIZE) if fate[i] == "seen"])
        new = [i for i in range(SIZE) if fate[i] == "revealed"]
        for i in new:
            with_i = [j for j in range(SIZE) if fate[j] == "seen" or j == i]
            at_once -= chance * math.log(probability(p, row, with_i) / seen)
        both = [i for i in range(SIZE) if fate[i] != "stays"]
        together -= chance * math.log(probability(p, row, both) / seen)
    return at_once, together


def probability(p: Tensor, row: int, places: list[int]) -> float:
    """Of the values that an example has at some places."""
    return float(p[(X[:, places] == X[row, places]).all(1)].sum())


@pytest.mark.parametrize("kind", ["fixed-absorbing", "masking", "masking-unpaced"])
@torch.no_grad()
def test_it_is_the_total_correlation_of_what_a_step_reveals(kind: str) -> None:
    alike = 2.0 * (X[:, :1] == X).sum(1) + torch.arange(len(X)) / 10
    p = torch.softmax(alike, 0)
    diffusion, batch = problem(p, kind)
    repeats = 1500
    many = batch.repeat(repeats)
    found = surprisals(diffusion, many, torch.Generator().manual_seed(0), draws=4)
    forward = diffusion.forward_process
    encoding = forward.encode(batch)
    correlations = []
    for step in range(1, STEPS + 1):
        transition = forward.transition(batch, encoding, torch.full((len(X),), step))
        assert isinstance(transition, MaskingTransition)
        exact = torch.tensor([total_correlation(p, transition, row) for row in range(len(X))]).T
        for estimate, expected in zip(found, exact, strict=True):
            drawn = estimate[:, step - 1].view(repeats, len(X))
            error = drawn.std(0) / math.sqrt(repeats)
            assert ((drawn.mean(0) - expected).abs() < 5 * error + 1e-3).all()
            assert error.max() < 0.1
        correlations.append(float((p * (exact[0] - exact[1])).sum()))
    assert max(correlations) > 0.05


@torch.no_grad()
def test_independent_letters_have_none() -> None:
    one = torch.tensor([0.2, 0.8])
    p = torch.tensor([math.prod(float(one[v]) for v in x) for x in X.tolist()])
    diffusion, batch = problem(p, "masking")
    generator = torch.Generator().manual_seed(0)
    together, apart = (
        part.mean(0) for part in surprisals(diffusion, batch.repeat(1500), generator)
    )
    torch.testing.assert_close(together, apart, atol=0.02, rtol=0)


@pytest.mark.parametrize("kind", ["fixed-uniform", "masking:3", "masking:head", "mixed"])
def test_other_processes_are_refused(kind: str) -> None:
    generator = torch.Generator()
    with pytest.raises(ValueError, match="process has to"):
        surprisals(build_diffusion(kind, 2), random_batch(2), generator)

"""Muon: the step is orthogonal, as long as AdamW's, and the one of torch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from molfldd.core.muon import RMS, Muon, orthogonalized

SHAPES = [(16, 16), (8, 40), (48, 12)]


def matrix(shape: tuple[int, int], seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_vectors_stay_and_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    u, s, v = torch.linalg.svd(matrix(shape), full_matrices=False)
    rotated = u.T @ orthogonalized((u @ torch.diag(s) @ v)[None])[0] @ v.T
    found = rotated.diagonal()
    assert found.min() > 0.4
    assert found.max() < 1.3
    torch.testing.assert_close(rotated, torch.diag(found), rtol=0, atol=1e-4)


def test_the_length_of_the_gradient_does_not_matter_and_none_is_no_step() -> None:
    gradient = matrix((8, 40))[None]
    torch.testing.assert_close(orthogonalized(1e-3 * gradient), orthogonalized(gradient))
    assert not orthogonalized(torch.zeros(2, 8, 40)).any()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_step_is_as_long_as_one_of_adamw(shape: tuple[int, int]) -> None:
    weight = nn.Parameter(torch.zeros(shape))
    weight.grad = matrix(shape)
    Muon([weight], lr=0.1).step()
    assert float(weight.detach().square().mean().sqrt()) == pytest.approx(0.1 * RMS, rel=0.3)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has it since 2.9")
@pytest.mark.parametrize("shape", SHAPES)
def test_steps_are_those_of_torch_up_to_its_precision(shape: tuple[int, int]) -> None:
    mine, its = (nn.Parameter(matrix(shape)) for _ in range(2))
    optimizers = (
        Muon([mine], lr=0.05, weight_decay=0.1),
        torch.optim.Muon([its], lr=0.05, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    )
    for step in range(5):
        for weight, optimizer in zip((mine, its), optimizers, strict=True):
            weight.grad = matrix(shape, 1 + step)
            optimizer.step()
    moved = (its.detach() - matrix(shape)).norm()
    assert (mine - its).detach().norm() < 0.02 * moved


@pytest.mark.parametrize("shape", SHAPES)
def test_half_precision_moves_the_weights_almost_alike(shape: tuple[int, int]) -> None:
    moved = []
    for dtype in (torch.float32, torch.bfloat16):
        weight = nn.Parameter(matrix(shape))
        weight.grad = matrix(shape, 1)
        Muon([weight], lr=0.05, dtype=dtype).step()
        moved.append(weight.detach() - matrix(shape))
    assert moved[1].dtype == torch.float32
    assert (moved[1] - moved[0]).norm() < 0.03 * moved[0].norm()


def test_weights_without_a_gradient_are_left_alone() -> None:
    weights = [nn.Parameter(matrix((8, 8))) for _ in range(2)]
    weights[0].grad = matrix((8, 8), 1)
    Muon(weights, weight_decay=0.1).step()
    assert not torch.equal(weights[0], matrix((8, 8)))
    assert torch.equal(weights[1], matrix((8, 8)))


def test_matrices_of_one_shape_or_its_transpose_move_as_they_would_alone() -> None:
    shapes = [(8, 40), (40, 8), (16, 16), (8, 40)]
    weights, alone = (
        [nn.Parameter(matrix(shape, i)) for i, shape in enumerate(shapes)] for _ in "ab"
    )
    together, single = Muon(weights), [Muon([weight]) for weight in alone]
    for number in range(3):
        for i, shape in enumerate(shapes):
            weights[i].grad, alone[i].grad = (matrix(shape, 10 * number + i) for _ in "ab")
        for optimizer in (together, *single):
            optimizer.step()
    for weight, other in zip(weights, alone, strict=True):
        torch.testing.assert_close(weight, other)

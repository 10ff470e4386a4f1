"""Sums and softmax over segments against a loop, with each kernel there is."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import pytest
import torch
import torch_geometric.typing
from torch import Tensor

from molfldd.molecules.segments import Segments

LENGTHS = [3, 1, 4, 2]
with_torch_scatter = pytest.param(
    True,
    marks=pytest.mark.skipif(
        importlib.util.find_spec("torch_scatter") is None, reason="torch-scatter is not installed"
    ),
)


@pytest.fixture(params=[False, with_torch_scatter], ids=["torch", "torch-scatter"], autouse=True)
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_geometric.typing, "WITH_TORCH_SCATTER", request.param)


def rows(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(sum(LENGTHS), *shape, generator=generator, dtype=torch.float64)
    return values.requires_grad_()


def by_loop(reduce: Callable[[Tensor], Tensor], values: Tensor) -> list[Tensor]:
    return [reduce(part) for part in values.split(LENGTHS)]


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_sum_and_its_gradient(shape: tuple[int, ...]) -> None:
    values = rows(*shape)
    found = Segments.of(torch.tensor(LENGTHS)).sum(values)
    expected = torch.stack(by_loop(lambda part: part.sum(0), values))
    torch.testing.assert_close(found, expected)
    assert_same_gradient(values, found, expected)


@pytest.mark.parametrize("shape", [(), (3,)])
def test_softmax_and_its_gradient(shape: tuple[int, ...]) -> None:
    values = rows(*shape)
    found = Segments.of(torch.tensor(LENGTHS)).softmax(values)
    expected = torch.cat(by_loop(lambda part: part.softmax(0), values))
    torch.testing.assert_close(found, expected)
    assert_same_gradient(values, found, expected)


def test_softmax_of_large_numbers_is_finite() -> None:
    weights = Segments.of(torch.tensor(LENGTHS)).softmax(rows(2) * 1e4)
    assert weights.isfinite().all()
    total = Segments.of(torch.tensor(LENGTHS)).sum(weights)
    torch.testing.assert_close(total, torch.ones_like(total))


def test_an_empty_segment_sums_to_zero() -> None:
    values = torch.ones(3, 2)
    found = Segments.of(torch.tensor([0, 2, 0, 1, 0])).sum(values)
    assert found[:, 0].tolist() == [0, 2, 0, 1, 0]


def assert_same_gradient(values: Tensor, found: Tensor, expected: Tensor) -> None:
    weights = torch.rand_like(found)
    ours, theirs = (torch.autograd.grad((y * weights).sum(), values)[0] for y in (found, expected))
    torch.testing.assert_close(ours, theirs)

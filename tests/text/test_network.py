"""The transformer with random weights everywhere: padding, positions, zero start, gradients."""

import pytest
import torch
from torch import Tensor

from molfldd.text.network import (
    TOKENS,
    TokenEmbedding,
    Transformer,
    TransformerConfig,
    rotate,
    rotation,
)

STATES, CHANNELS, LONGEST = 7, 5, 12
CONFIG = TransformerConfig(layers=2, width=16, heads=2)


def network(seed: int = 0) -> Transformer:
    module = Transformer(CONFIG, LONGEST, {TOKENS: STATES}, {TOKENS: CHANNELS}).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.4, generator=generator)
    return module


def texts(sizes: list[int], width: int) -> tuple[Tensor, Tensor, Tensor]:
    """One-hot states, masks and times."""
    generator = torch.Generator().manual_seed(1)
    codes = torch.randint(STATES, (len(sizes), LONGEST), generator=generator)[:, :width]
    mask = torch.arange(width) < torch.tensor(sizes)[:, None]
    onehot = torch.nn.functional.one_hot(torch.where(mask, codes, 0), STATES).double()
    return onehot, mask, torch.linspace(0.1, 0.9, len(sizes)).double()


def run(module: Transformer, values: Tensor, mask: Tensor, time: Tensor) -> Tensor:
    return module({TOKENS: values}, {TOKENS: mask}, time)[TOKENS]


@torch.no_grad()
def test_padding_changes_nothing() -> None:
    module, (values, mask, time) = network(), texts([3, 6], 6)
    expected = run(module, values, mask, time)
    longer, longer_mask, _ = texts([3, 6], LONGEST)
    junk = torch.where(longer_mask[..., None], longer, longer.roll(2, -1))
    torch.testing.assert_close(run(module, junk, longer_mask, time)[:, :6][mask], expected[mask])
    alone = run(module, values[:1, :3], mask[:1, :3], time[:1])
    torch.testing.assert_close(alone[0], expected[0, :3])


@torch.no_grad()
def test_every_token_sees_every_other() -> None:
    module, (values, mask, time) = network(), texts([6], 6)
    base = run(module, values, mask, time)
    for place in range(6):
        changed = values.clone()
        changed[0, place] = changed[0, place].roll(1)
        assert ((run(module, changed, mask, time) - base).abs().amax(-1) > 1e-6).all()


@torch.no_grad()
def test_positions_matter() -> None:
    module, (values, mask, time) = network(), texts([6], 6)
    same = values[:, :1].expand_as(values)
    found = run(module, same, mask, time)
    assert (found[0, 1:] - found[0, :-1]).abs().amax(-1).min() > 1e-4
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    permuted = run(module, values[:, order], mask, time)
    assert (permuted - run(module, values, mask, time)[:, order]).abs().max() > 1e-2


@torch.no_grad()
def test_rotary_products_depend_on_the_distance_alone() -> None:
    cosine, sine = (x.double() for x in rotation(9, 8, torch.device("cpu")))
    q, k = (x.expand(1, 1, 9, 8) for x in torch.randn(2, 8, dtype=torch.double))
    products = (rotate(q, cosine, sine) @ rotate(k, cosine, sine).mT)[0, 0]
    for distance in range(-8, 9):
        diagonal = products.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=0, atol=1e-5)
    assert products[0].std() > 0.01
    torch.testing.assert_close(rotate(q, cosine, sine).norm(dim=-1), q.norm(dim=-1))


@torch.no_grad()
def test_time_and_length_matter() -> None:
    module, (values, mask, time) = network(), texts([6], 6)
    base = run(module, values, mask, time)
    assert (run(module, values, mask, time + 0.1) - base).abs().max() > 1e-3
    shorter = mask & (torch.arange(6) < 5)
    assert (run(module, values, shorter, time) - base)[:, :5].abs().max() > 1e-3


def test_output_starts_at_zero() -> None:
    module = Transformer(CONFIG, LONGEST, {TOKENS: STATES}, {TOKENS: CHANNELS})
    values, mask, time = texts([3, 6], 6)
    found = run(module, values.float(), mask, time.float())
    assert found.shape == (2, 6, CHANNELS)
    assert not found.any()


def test_gradient_reaches_everything() -> None:
    module, (values, mask, time) = network(), texts([3, 6], 6)
    values.requires_grad_()
    (run(module, values, mask, time)[mask] ** 2).sum().backward()
    assert all(bool(parameter.grad.any()) for parameter in module.parameters())
    assert values.grad is not None
    assert values.grad[mask].abs().amin(0).sum() > 0


@pytest.mark.parametrize("kind", ["hard", "soft", "straight-through"])
def test_embedding_is_the_product_with_the_table(kind: str) -> None:
    embed = TokenEmbedding(STATES, 4).double()
    values, _, _ = texts([3, 6], 6)
    if kind == "soft":
        values = 0.7 * values + 0.3 / STATES
    values.requires_grad_(kind == "straight-through")
    found, expected = embed(values), values @ embed.weight
    torch.testing.assert_close(found, expected)
    wanted = [embed.weight, values] if kind == "straight-through" else [embed.weight]
    torch.testing.assert_close(
        torch.autograd.grad((found**2).sum(), wanted),
        torch.autograd.grad((expected**2).sum(), wanted),
    )


@torch.no_grad()
def test_bfloat16_runs_and_agrees() -> None:
    module, (values, mask, time) = network().float(), texts([3, 6], 6)
    exact = run(module, values.float(), mask, time.float())
    with torch.autocast("cpu", torch.bfloat16):
        found = run(module, values.float(), mask, time.float())
    assert (found - exact)[mask].abs().max() < 0.1 * exact[mask].std() + 0.1 * exact.abs().max()


@pytest.mark.parametrize(
    "sizes", [{"layers": 0}, {"width": 0}, {"heads": 0}, {"width": 12, "heads": 4}]
)
def test_impossible_sizes(sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="heads"):
        TransformerConfig(**sizes)

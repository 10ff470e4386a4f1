"""Samples follow the enumerated model, and depend on (seed, index) alone."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2
from tiny import BLOCKS, build_diffusion, exact_model
from torch import Tensor

from molfldd.core.blocks import SizeDistribution, draw
from molfldd.core.diffusion import Diffusion
from molfldd.core.law import Sharpness
from molfldd.core.sampling import Sampler, Samples, example_noise

SIZES = SizeDistribution(torch.tensor([0, 1, 3]))
ONE_BELOW = 1 - 2.0**-24  # the largest number torch.rand can return

every_process = pytest.mark.parametrize(
    "kind",
    [
        "fixed-uniform",
        "pinned-absorbing",
        "fixed-absorbing",
        "masking",
        "masking:3",
        "masking:head",
        "free-uniform:2",
    ],
)


def sampler(kind: str, seed: int = 0, steps: int = 3) -> Sampler:
    diffusion: Diffusion = build_diffusion(kind, steps, seed)
    return Sampler(diffusion.reverse, diffusion.prior, SIZES)


def chi_square(samples: Samples, model: Sampler, size: int) -> tuple[float, float]:
    """Of the samples of one size against the exact model; and the value exceeded in 1e-5."""
    with torch.no_grad():
        states, p = exact_model(model.reverse, model.prior, size, model.steps)
    rows = samples.sizes == size
    alike = torch.ones(int(rows.sum()), len(states), dtype=torch.bool)
    for name, x in states.codes.items():
        found = samples.codes[name][rows][:, : x.shape[1]]
        alike &= (found[:, None] == x).all(-1)
    assert (alike.sum(-1) == 1).all()
    observed, expected = alike.sum(0).double(), p.double() * len(alike)
    frequent = expected > 5
    rest = [observed[~frequent].sum()], [expected[~frequent].sum()]
    o = torch.cat([observed[frequent], torch.tensor(rest[0])])
    e = torch.cat([expected[frequent], torch.tensor(rest[1])])
    o, e = o[e > 1e-2], e[e > 1e-2]
    return float(((o - e) ** 2 / e).sum()), float(chi2.ppf(1 - 1e-5, len(o)))


@every_process
def test_samples_follow_the_exact_model(kind: str) -> None:
    model = sampler(kind)
    samples = model.sample(0, range(8000))
    for size in (1, 2):
        value, limit = chi_square(samples, model, size)
        assert value < limit


@pytest.mark.parametrize("steps", [3, 1, 2])
def test_samples_of_each_walk_follow_its_exact_model(steps: int) -> None:
    diffusion = build_diffusion("masking-paced", (3, 1, 2), 0)
    model = Sampler(diffusion.reverse, diffusion.prior, SIZES, steps=steps)
    samples = model.sample(0, range(8000), keep_trajectory=True)
    assert len(samples.trajectory) == steps + 1
    value, limit = chi_square(samples, model, 2)
    assert value < limit


def test_samples_of_another_model_do_not() -> None:
    samples = sampler("masking", seed=1).sample(0, range(8000))
    value, limit = chi_square(samples, sampler("masking", seed=0), 2)
    assert value > limit


@every_process
def test_sizes_follow_p_of_n(kind: str) -> None:
    sizes = sampler(kind).sample(3, range(8000)).sizes
    assert set(sizes.tolist()) == {1, 2}
    assert float((sizes == 1).float().mean()) == pytest.approx(0.25, abs=0.02)


@every_process
def test_an_example_does_not_depend_on_the_company_it_keeps(kind: str) -> None:
    model = sampler(kind)
    model = Sampler(model.reverse, model.prior, SizeDistribution(torch.tensor([0, 1, 2, 1])))
    whole = model.sample(7, range(23))
    for batch_size in (1, 5, 23, 100):
        starts = range(0, 23, batch_size)
        parts = [model.sample(7, range(i, min(i + batch_size, 23))) for i in starts]
        assert sum(len(part.sizes) for part in parts) == 23
        first = 0
        for part in parts:
            for i, size in enumerate(part.sizes.tolist()):
                assert size == int(whole.sizes[first + i])
                for name, length in (("letters", size), ("links", size - 1)):
                    one, other = part.codes[name][i], whole.codes[name][first + i]
                    assert torch.equal(one[:length], other[:length])
            first += len(part.sizes)


def test_other_seeds_and_indices_give_other_noise() -> None:
    rows = [example_noise(seed, i, 2, 3) for seed in range(4) for i in range(50)]
    assert len({tuple(row.flatten().tolist()) for row in rows}) == 200
    assert torch.equal(example_noise(3, 5, 2, 3), rows[3 * 50 + 5])


def test_trajectory_leads_from_the_prior_to_the_data() -> None:
    samples = sampler("masking").sample(0, range(50), keep_trajectory=True)
    assert len(samples.trajectory) == 4
    assert torch.equal(samples.codes["letters"], samples.trajectory[-1]["letters"])
    for block in BLOCKS:
        states = [z[block.name] for z in samples.trajectory]
        valid = samples.mask[block.name]
        assert (states[0] == block.categories).all()
        assert (states[-1] < block.categories)[valid].all()
        for before, after in pairwise(states):
            revealed = (before < block.categories) & valid
            assert torch.equal(after[revealed], before[revealed])
    alone = sampler("masking").sample(0, range(50))
    assert len(alone.trajectory) == 1
    assert torch.equal(alone.codes["letters"], samples.codes["letters"])


def test_first_state_follows_the_prior() -> None:
    model = sampler("fixed-uniform")
    z = model.sample(0, range(6000), keep_trajectory=True).trajectory[0]["letters"][:, 0]
    shares = torch.bincount(z, minlength=3) / 6000
    torch.testing.assert_close(shares, torch.full((3,), 1 / 3), atol=0.025, rtol=0)


# draw -----------------------------------------------------------------------------------------

probabilities = st.lists(
    st.one_of(st.just(0.0), st.floats(2.0**-20, 1.0, width=32)), min_size=1, max_size=6
).filter(any)


@given(probabilities, st.one_of(st.sampled_from([0.0, ONE_BELOW]), st.floats(0, ONE_BELOW)))
def test_draw_never_picks_the_impossible(weights: list[float], uniform: float) -> None:
    p = torch.tensor(weights) / sum(weights)
    assert p[draw(p, torch.tensor(uniform))] > 0


@given(probabilities)
def test_draw_picks_every_state_as_often_as_it_should(weights: list[float]) -> None:
    p = torch.tensor(weights) / sum(weights)
    uniform = (torch.arange(1000) + 0.5) / 1000
    counts = torch.bincount(draw(p.expand(1000, -1), uniform), minlength=len(p))
    torch.testing.assert_close(counts / 1000, p, atol=2e-3, rtol=0)


def test_draw_of_a_certain_state() -> None:
    for uniform in (0.0, 0.3, ONE_BELOW):
        for k in range(4):
            assert int(draw(torch.eye(4)[k], torch.tensor(uniform))) == k


# Sizes ----------------------------------------------------------------------------------------


def test_size_distribution_counts_what_it_saw() -> None:
    sizes = SizeDistribution.of(torch.tensor([2, 5, 5, 5]))
    assert sizes.largest == 5
    expected = torch.tensor([1 / 4, 3 / 4, 0.0, 0.0]).log()
    found: Tensor = sizes.log_prob(torch.tensor([2, 5, 3, 9]))
    torch.testing.assert_close(found, expected)
    uniform = torch.tensor([0.0, 0.2499, 0.2501, ONE_BELOW])
    assert sizes.quantile(uniform).tolist() == [2, 2, 5, 5]


@pytest.mark.parametrize("counts", [[0, 0], [-1, 2], [[1]]])
def test_impossible_size_counts_are_refused(counts: list[int]) -> None:
    with pytest.raises(ValueError, match="non-negative"):
        SizeDistribution(torch.tensor(counts))


@pytest.mark.parametrize("temperature", [0.5, 0.9, 1.0, 2.0])
def test_temperature_is_a_power_of_the_categories_and_leaves_the_mask(temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(3, 5, 4, generator=generator, dtype=torch.float64)
    p = p / p.sum(-1, keepdim=True)
    found = Sharpness(temperature)(p.log(), 3).exp()
    expected = p[..., :3] ** (1 / temperature)
    expected *= (1 - p[..., 3:]) / expected.sum(-1, keepdim=True)
    torch.testing.assert_close(found, torch.cat([expected, p[..., 3:]], -1))


def kinds(codes: dict[str, Tensor]) -> int:
    return len(torch.cat(list(codes.values()), 1).unique(dim=0))


def test_temperature_one_changes_nothing_and_little_of_it_takes_the_likeliest() -> None:
    model = sampler("fixed-absorbing")
    plain = model.sample(0, range(500)).codes
    seen = {}
    for temperature in (1.0 + 1e-9, 0.3, 1e-4):
        model.sharpness = Sharpness(temperature)
        seen[temperature] = model.sample(0, range(500)).codes
    for name, codes in plain.items():
        assert torch.equal(seen[1.0 + 1e-9][name], codes)

    assert kinds(seen[1e-4]) < kinds(seen[0.3]) < kinds(plain)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_what_is_too_unlikely_never_comes_and_the_rest_keeps_its_ratios(temperature: float) -> None:
    p = torch.tensor([0.3, 0.02, 0.2, 0.03, 0.45], dtype=torch.float64)
    found = Sharpness(temperature, min_p=0.09)(p.log(), 4).exp()
    kept = torch.tensor([0.3, 0.0, 0.2, 0.03, 0.0]).double() ** (1 / temperature)
    torch.testing.assert_close(found[:4], (0.55 * kept / kept.sum())[:4])
    torch.testing.assert_close(found[4], p[4])
    torch.testing.assert_close(Sharpness(1.0, min_p=0.0)(p.log(), 4), p.log())


@pytest.mark.parametrize(("least", "revealed"), [(0.0, 0.55), (0.8, 0.55), (0.9, 1.0)])
def test_revealing_and_not_are_kept_if_likely_enough(least: float, revealed: float) -> None:
    p = torch.tensor([0.3, 0.05, 0.2, 0.45], dtype=torch.float64)
    found = Sharpness(min_reveal=least)(p.log(), 3).exp()
    torch.testing.assert_close(found[:3], revealed * p[:3] / 0.55)
    torch.testing.assert_close(found[3], p[3].new_tensor(1 - revealed))


def test_without_a_mask_there_is_nothing_to_reveal() -> None:
    p = torch.tensor([0.1, 0.3, 0.6], dtype=torch.float64)
    torch.testing.assert_close(Sharpness(min_reveal=0.9)(p.log(), 3).exp(), p)


@every_process
def test_a_step_draws_by_the_sharpened_law(kind: str) -> None:
    """What it draws has a probability by its law, and about half of the values have none."""
    model = sampler(kind)
    model.sharpness = Sharpness(min_p=0.9)
    for state in model.walk(0, range(200)):
        if state.law is not None:
            assert state.law.log_prob(state.z, state.mask).min() > -100
    few, plain = (m.sample(0, range(500)).codes for m in (model, sampler(kind)))
    assert kinds(few) < kinds(plain)


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 0.0},
        {"temperature": math.inf},
        {"temperature": math.nan},
        {"min_p": 1.0},
        {"min_p": math.nan},
        {"min_reveal": -0.1},
    ],
)
def test_sharpness_has_its_limits(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be at least"):
        Sharpness(**changes)

"""The data distribution, its measure, and the domain around them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from molfldd.config import parse_config, read_recipe
from molfldd.core.blocks import uniform_prior
from molfldd.errors import UsageError
from molfldd.toy.domain import Mixture, MixtureData
from molfldd.toy.exact import all_points, mixed
from molfldd.toy.mixture import GaussianMixture, histogram, sampling_floor, total_variation
from molfldd.toy.network import COORDINATES, PerceptronConfig

mixtures = st.builds(
    GaussianMixture,
    grid=st.integers(2, 40),
    means=st.tuples(*[st.tuples(st.floats(-5, 45), st.floats(-5, 45))] * 2),
    sigma=st.floats(0.1, 100),
    weight=st.floats(0, 1),
)
seeds = st.integers(0, 1000)


def distribution(seed: int, states: int = 9) -> torch.Tensor:
    """Any distribution; about half of the states are impossible."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(states, generator=generator, dtype=torch.float64)
    possible = torch.rand(states, generator=generator) < 0.5
    possible[seed % states] = True
    return torch.softmax(logits.masked_fill(~possible, -torch.inf), -1)


@given(mixtures)
def test_probabilities_are_a_distribution(mixture):
    p = mixture.probabilities()
    assert p.shape == (mixture.grid, mixture.grid)
    assert p.min() >= 0
    assert float(p.sum()) == pytest.approx(1, abs=1e-12)


def test_means_weight_and_sigma_are_those_asked_for():
    mixture = GaussianMixture(grid=60, means=((12.0, 20.0), (45.0, 38.0)), sigma=3.0, weight=0.3)
    p = mixture.probabilities()
    cells = torch.arange(60.0, dtype=torch.float64)
    first = p[:28]
    assert float(first.sum()) == pytest.approx(0.3, abs=1e-6)
    along0, along1 = first.sum(1) / first.sum(), first.sum(0) / first.sum()
    assert float((along0 * cells[:28]).sum()) == pytest.approx(12, abs=1e-3)
    assert float((along1 * cells).sum()) == pytest.approx(20, abs=1e-3)
    assert float((along1 * (cells - 20) ** 2).sum()) == pytest.approx(9, rel=0.01)


def test_one_gaussian_factorizes_and_the_mixture_does_not():
    def dependence(weight: float) -> float:
        p = GaussianMixture(weight=weight).probabilities()
        return total_variation(p, torch.outer(p.sum(1), p.sum(0)))

    assert dependence(1.0) < 1e-12
    assert dependence(0.5) > 0.45


@given(seeds, seeds, seeds)
def test_total_variation_is_a_metric_bounded_by_one(a, b, c):
    p, q, r = (distribution(seed) for seed in (a, b, c))
    assert total_variation(p, p) == 0
    assert total_variation(p, q) == total_variation(q, p)
    assert 0 <= total_variation(p, q) <= 1 + 1e-12
    assert total_variation(p, r) <= total_variation(p, q) + total_variation(q, r) + 1e-12
    assert (total_variation(p, q) > 0) == (not torch.equal(p, q))


def test_total_variation_of_disjoint_distributions_is_one():
    p, q = torch.tensor([0.25, 0.75, 0.0]), torch.tensor([0.0, 0.0, 1.0])
    assert total_variation(p, q) == 1


def test_histogram_counts_cells_row_by_row():
    points = torch.tensor([[0, 1], [0, 1], [2, 0], [1, 2]])
    expected = torch.tensor([[0, 0.5, 0], [0, 0, 0.25], [0.25, 0, 0]], dtype=torch.float64)
    assert torch.equal(histogram(points, 3), expected)


@pytest.mark.parametrize("count", [50, 1000, 20_000])
def test_samples_are_as_far_from_the_data_as_the_floor_says(count):
    """Mean of 20 draws; the floor is that mean in theory. Spreads fall with the count."""
    mixture = GaussianMixture(grid=20, means=((5.0, 5.0), (14.0, 14.0)), sigma=2.0)
    p = mixture.probabilities()
    distances = [total_variation(histogram(mixture.sample(count, s), 20), p) for s in range(20)]
    floor = sampling_floor(p, count)
    assert sum(distances) / 20 == pytest.approx(floor, rel=0.03)
    assert max(abs(d - floor) for d in distances) < 0.25 * floor


def test_floor_of_one_coin_is_its_mean_deviation():
    """Two tosses of a fair coin: half the time the histogram is off by one half."""
    assert sampling_floor(torch.tensor([0.5, 0.5]), 2) == pytest.approx(0.25)
    assert sampling_floor(torch.tensor([1.0, 0.0]), 5) == 0


def test_sampling_is_named_by_its_seed():
    mixture = GaussianMixture()
    assert torch.equal(mixture.sample(100, 3), mixture.sample(100, 3))
    assert not torch.equal(mixture.sample(100, 3), mixture.sample(100, 4))
    assert torch.equal(mixture.sample(100, 3), mixture.sample(200, 3)[:100])


@pytest.mark.parametrize(
    "wrong", [{"grid": 1}, {"sigma": 0.0}, {"weight": 1.5}, {"weight": -0.1}, {"examples": 3}]
)
def test_impossible_data_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MixtureData(**wrong)


def test_mistakes_in_the_data_of_a_recipe_are_named():
    content = read_recipe("toy")
    with pytest.raises(UsageError, match="'data': sigma must be positive"):
        parse_config({**content, "data": {**content["data"], "sigma": -1.0}})
    with pytest.raises(UsageError, match="sigmma"):
        parse_config({**content, "data": {**content["data"], "sigmma": 1.0}})


def test_loading_divides_the_points_and_names_them():
    data = Mixture.load(MixtureData(examples=1000, seed=1))
    assert (len(data.train), len(data.test)) == (900, 100)
    again = Mixture.load(MixtureData(examples=1000, seed=1))
    other = Mixture.load(MixtureData(examples=1000, seed=2))
    assert data.fingerprint == again.fingerprint != other.fingerprint
    points = torch.cat([data.train.codes[COORDINATES], data.test.codes[COORDINATES]])
    assert torch.equal(points, GaussianMixture().sample(1000, 1))


def test_batches_have_two_coordinates_and_no_padding():
    data = Mixture.load(MixtureData(examples=100))
    batch = data.train.batch(torch.arange(7))
    assert batch.codes[COORDINATES].shape == (7, 2)
    assert batch.mask[COORDINATES].all()


def test_domain_survives_a_checkpoint():
    domain = Mixture(GaussianMixture(30, ((3.0, 4.0), (20.0, 21.0)), 2.5, 0.25))
    assert Mixture.from_json(domain.to_json()) == domain


def test_decoding_gives_points_and_their_quality():
    mixture = GaussianMixture()
    domain = Mixture(mixture)
    points = mixture.sample(5000, 0)
    decoded = domain.decode({COORDINATES: points}, [2] * 5000)
    assert decoded[:3] == [tuple(point) for point in points[:3].tolist()]
    good = domain.quality(decoded)
    assert good["total_variation"] == pytest.approx(good["total_variation_floor"], rel=0.05)
    bad = domain.quality([(i, 49 - j) for i, j in decoded])
    assert bad["total_variation"] > 0.95
    assert bad["total_variation_floor"] == good["total_variation_floor"]


def test_network_starts_at_zero_and_tells_the_coordinates_apart():
    domain = Mixture(GaussianMixture(grid=6, means=((1.0, 1.0), (4.0, 4.0)), sigma=1.0))
    network = domain.network(PerceptronConfig(2, 16), {COORDINATES: 6}, {COORDINATES: 9})
    points = all_points(6)
    values, time = uniform_prior(domain.blocks).onehot(points.codes), torch.rand(36)
    features = network(values, points.mask, time)[COORDINATES]
    assert features.shape == (36, 2, 9)
    assert not features.any()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    features = network(values, points.mask, time)[COORDINATES]
    swapped = network({COORDINATES: values[COORDINATES].flip(1)}, points.mask, time)[COORDINATES]
    assert not torch.allclose(features, swapped.flip(1), atol=0.1)
    assert not torch.allclose(features, network(values, points.mask, time + 0.5)[COORDINATES])


def test_mixed_adds_products():
    factors = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [1.0, 0.0]]])
    expected = torch.tensor([[0.375, 0.25], [0.375, 0.0]], dtype=torch.float64)
    assert torch.equal(mixed(torch.tensor([0.25, 0.75]), factors), expected)


def test_recipe_is_where_the_package_looks_for_it():
    config = parse_config(read_recipe("toy"))
    assert config.domain == "mixture"
    assert config.process.steps == 2

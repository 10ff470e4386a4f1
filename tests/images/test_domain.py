"""Images as a domain: there and back, and what the training log says."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from molfldd.config import parse_config, read_recipe
from molfldd.core.sampling import Samples
from molfldd.images.datasets import ImageData
from molfldd.images.domain import Images
from molfldd.images.network import PIXELS


@pytest.fixture(scope="module")
def data():
    return Images.load(ImageData())


def test_images_come_back(data, digits):
    batch = data.train.batch(torch.arange(20))
    assert batch.codes[PIXELS].shape == (20, 64)
    assert batch.mask[PIXELS].all()
    decoded = data.domain.decode(batch.codes, batch.sizes.tolist())
    assert all(image.shape == (8, 8) and image.dtype == np.uint8 for image in decoded)
    assert np.array_equal(np.stack(decoded), 255 * digits.train.pixels[:20])


def test_rows_come_one_after_another():
    domain = Images((2, 3), ImageData())
    (image,) = domain.decode({PIXELS: torch.tensor([[0, 1, 0, 1, 1, 0]])}, [6])
    assert image.tolist() == [[0, 255, 0], [255, 255, 0]]


def test_loading_names_the_data(data, digits):
    assert data.fingerprint == digits.fingerprint
    assert (len(data.train), len(data.test)) == (len(digits.train), len(digits.test))


def test_domain_survives_a_checkpoint():
    domain = Images((28, 20), ImageData("mnist", None, "stochastic", 3))
    assert Images.from_json(domain.to_json()) == domain


def test_networks_know_the_shape_and_not_the_data():
    mine = Images((28, 28), ImageData("mnist"))
    assert mine.like(Images((28, 28), ImageData("mnist", binarization="stochastic", seed=1)))
    assert not mine.like(Images((8, 8), ImageData("mnist")))


def test_where_the_files_lay_is_not_part_of_a_domain():
    lying = Images((28, 20), ImageData("mnist", "folder"))
    assert lying.to_json() == Images((28, 20), ImageData("mnist")).to_json()


def test_trajectories_show_masked_pixels_in_grey():
    domain = Images((1, 3), ImageData())
    states = ([2, 2, 2], [2, 1, 2], [0, 1, 0])
    codes = tuple({PIXELS: torch.tensor([state, state])} for state in states)
    mask = {PIXELS: torch.ones(2, 3, dtype=torch.bool)}
    first, second = domain.trajectories(Samples(codes, mask, torch.tensor([3, 3])))
    assert [state.tolist() for state in first] == [[[128] * 3], [[128, 255, 128]], [[0, 255, 0]]]
    assert np.array_equal(first, second)


def test_quality_tells_real_images_from_noise(data):
    real = data.domain.decode(data.test.batch(torch.arange(179)).codes, [64] * 179)
    noise = list(255 * np.random.default_rng(0).integers(0, 2, (179, 8, 8), np.uint8))
    good, bad = data.domain.quality(real), data.domain.quality(noise)
    assert good["frechet"] < good["frechet_floor"] < bad["frechet"]
    assert good["recognizable"] > bad["recognizable"]
    assert data.domain.quality(real[:1]) == {}


@pytest.mark.parametrize("name", ["digits", "mnist", "mnist-fixed"])
def test_recipes_are_where_the_package_looks_for_them(name):
    config = parse_config(read_recipe(name))
    assert config.domain == "images"
    assert config.process.steps == 4


def test_both_recipes_of_mnist_differ_in_the_forward_process_only():
    learned, fixed = (parse_config(read_recipe(name)) for name in ("mnist", "mnist-fixed"))
    assert (learned.data, learned.network) == (fixed.data, fixed.network)
    each = {"batch_size": 64, "steps_per_example": 1}
    assert learned.training.batch_size * learned.training.steps_per_example == 64
    assert replace(learned.training, **each) == fixed.training
    assert learned.monitor == fixed.monitor
    assert fixed.process.forward == "fixed"
    for one, other in zip(learned.phases, fixed.phases, strict=True):
        assert (one.iterations, one.lr_reverse) == (other.iterations, other.lr_reverse)

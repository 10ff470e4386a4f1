"""The classifier and the scores that rest on it."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from molfldd.errors import MolflddError, UsageError
from molfldd.images import classifier as module
from molfldd.images.classifier import classifier_of
from molfldd.images.datasets import ImageData
from molfldd.images.evaluation import Judge, bits_per_dim, evaluate, judge_of


@pytest.fixture(scope="module")
def judge(digits, cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOLFLDD_CACHE", str(cache))
        return Judge.of(digits)


def noise(count: int) -> list[np.ndarray]:
    return list(255 * np.random.default_rng(0).integers(0, 2, (count, 8, 8), np.uint8))


def test_classifier_knows_the_digits(judge):
    """0.95 for other seeds."""
    assert judge.accuracy > 0.9


def test_held_out_images_have_no_distance_to_themselves(judge):
    scores = judge.scores(list(255 * judge.dataset.test.pixels))
    assert abs(scores.frechet) < 1e-4
    assert scores.recognizable > 0.8


def test_noise_is_far_away_and_not_recognized(judge):
    real, scores = judge.floor(179), judge.scores(noise(179))
    assert scores.frechet > 5 * real.frechet
    assert scores.recognizable < 0.5 < real.recognizable


def test_floor_falls_with_the_number_of_images(judge):
    assert judge.floor(1618).frechet < judge.floor(179).frechet < judge.floor(30).frechet
    assert judge.floor(100) == judge.floor(100)


def test_scores_need_two_images(judge):
    with pytest.raises(UsageError, match="at least two images, but there are 1"):
        judge.scores(noise(1))


def test_classifier_is_trained_once(digits, judge, monkeypatch):
    monkeypatch.setattr(module, "fit", lambda images: pytest.fail("trained again"))
    again = classifier_of(digits)
    assert not again.training
    expected, _ = judge.classifier.judge(digits.test.pixels)
    found, _ = again.judge(digits.test.pixels)
    assert np.array_equal(found, expected)


def test_damaged_cache_is_trained_again(digits, tmp_path, monkeypatch):
    monkeypatch.setenv("MOLFLDD_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "_ITERATIONS", 5)
    classifier_of(digits)
    (path,) = tmp_path.iterdir()
    assert digits.fingerprint in path.name
    path.write_bytes(path.read_bytes()[:100])
    classifier_of(digits)
    assert path.stat().st_size > 1000


def test_classifier_is_named_by_its_seed(digits, monkeypatch):
    monkeypatch.setattr(module, "_ITERATIONS", 5)

    def output(seed: int) -> np.ndarray:
        return module.fit(digits.train, seed).judge(digits.test.pixels)[1]

    assert np.array_equal(output(0), output(0))
    assert not np.array_equal(output(0), output(1))


def test_cache_that_cannot_be_written(digits, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MOLFLDD_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(module, "_ITERATIONS", 1)
    with pytest.raises(MolflddError, match="set MOLFLDD_CACHE"):
        classifier_of(digits)


def test_bits_per_dim():
    assert bits_per_dim(64 * np.log(2), (8, 8)) == pytest.approx(1)


def test_report_of_several_seeds(judge):
    draws = [noise(100), list(255 * judge.dataset.train.pixels[:100])]
    report = evaluate(iter(draws), ImageData(), {"bound": 10.0})
    singles = [judge.scores(images) for images in draws]
    mean = (singles[0].frechet + singles[1].frechet) / 2
    assert len(report.runs) == 2
    assert report.mean["frechet"] == pytest.approx(mean)
    assert report.floor == asdict(judge.floor(100))
    assert report.mean["bits_per_dim"] == pytest.approx(bits_per_dim(10.0, (8, 8)))
    assert report.spread["bits_per_dim"] == 0
    assert report.protocol.samples == 100


def test_report_of_one_seed_without_a_bound():
    report = evaluate([noise(50)], ImageData(), {})
    assert set(report.spread.values()) == {None}
    assert report.mean["bits_per_dim"] is None
    assert report.floor is not None


def test_judge_is_kept(cache: Path):
    assert judge_of(ImageData()) is judge_of(ImageData())

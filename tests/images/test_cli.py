"""Every command on images as a user runs it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from program import CPU, same_weights, stopping_after

from molfldd.cli.train import INTERRUPTED
from molfldd.config import override, parse_config, read_recipe
from molfldd.engine import Engine
from molfldd.model import load_model
from molfldd.run import MODEL, Run

SMALL = [
    "network.layers=1",
    "network.width=16",
    "network.local=4",
    "training.batch_size=8",
    "monitor.samples=30",
    "monitor.examples=20",
    "phases.0.iterations=4",
    "phases.1.iterations=3",
]
SET = [part for change in SMALL for part in ("--set", change)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model."""
    folder = tmp_path_factory.mktemp("model")
    config = parse_config(override(read_recipe("digits"), SMALL))
    Run(config, folder, Engine("cpu", precision="32-true")).save()
    return folder / MODEL


@pytest.fixture
def folders(plain, arrays, idx, tmp_path):
    """In the working folder: "other" with images of 7 x 8, and "damaged"."""
    shutil.copytree(plain, tmp_path / "other")
    for name in ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte"):
        (tmp_path / "other" / name).write_bytes(idx(arrays[name][:, 1:]))
    plain.rename(tmp_path / "damaged")
    (tmp_path / "damaged" / "train-images-idx3-ubyte").write_text("not images")


def error(result: tuple[int, str, str]) -> str:
    (line,) = [line for line in result[2].splitlines() if line.startswith("error:")]
    return line


def test_train_sample_and_evaluate(molfldd, tmp_path):
    code, _, err = molfldd("train", "digits", "--out", "run", *SET, *CPU)
    assert code == 0, err
    last = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
    assert {"frechet", "frechet_floor", "recognizable", "bound"} <= last.keys()
    code, out, _ = molfldd("sample", "--checkpoint", f"run/{MODEL}", "--num", 3)
    assert code == 0
    assert len(out.splitlines()) == 3 * 5
    code, out, err = molfldd("evaluate", f"run/{MODEL}", "--num", 40, "--out", "report.json")
    assert code == 0, err
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["mean"]["bits_per_dim"] == pytest.approx(last["bound"] / 64 / np.log(2), rel=1e-3)
    assert report["mean"]["frechet"] > report["floor"]["frechet"]
    assert report["protocol"]["samples"] == 40
    assert "40 samples against 179 held-out images of digits" in " ".join(out.split())


def test_a_folder_of_images_and_a_resumed_training(molfldd, plain, tmp_path):
    """Continued, it ends as if it had never been interrupted."""
    arguments = ("train", "mnist", "--data", plain, *SET, "--set", "monitor.samples=1", *CPU)
    code, _, err = molfldd(*arguments, "--out", "whole")
    assert code == 0, err
    with stopping_after(5):
        assert molfldd(*arguments, "--out", "parts")[0] == INTERRUPTED
    assert not same_weights(tmp_path / "whole", tmp_path / "parts")
    assert molfldd("train", "mnist", "--out", "parts", "--resume", *CPU)[0] == 0
    assert same_weights(tmp_path / "whole", tmp_path / "parts")


def arrays(path: Path, name: str = "images") -> np.ndarray:
    with np.load(path) as file:
        return np.asarray(file[name])


def test_samples_belong_to_their_seed(molfldd, checkpoint):
    def sample(name: str, *more: object) -> np.ndarray:
        arguments = ("sample", "--checkpoint", checkpoint, "--num", 10, "--out", name, *more)
        assert molfldd(*arguments)[0] == 0
        return arrays(Path(name))

    first = sample("a.npz")
    assert first.shape == (10, 8, 8)
    assert set(np.unique(first)) == {0, 255}
    assert np.array_equal(sample("b.npz", "--batch-size", 3, "--steps", 4), first)
    assert not np.array_equal(sample("c.npz", "--seed", 1), first)
    assert np.array_equal(np.stack(load_model(checkpoint).sample(10)), first)


def test_ways_of_drawing_differ(molfldd, checkpoint):
    def sample(*more: object) -> np.ndarray:
        arguments = ("sample", "--checkpoint", checkpoint, "--num", 10, "--out", "a.npz", *more)
        assert molfldd(*arguments)[0] == 0
        return arrays(Path("a.npz"))

    default = sample()
    assert np.array_equal(sample("--joint", "smooth"), default)
    assert not np.array_equal(sample("--joint", "independent"), default)
    assert not np.array_equal(sample("--joint", "balanced"), default)


def test_trajectories_end_in_the_samples(molfldd, checkpoint):
    arguments = ("sample", "--checkpoint", checkpoint, "--num", 5)
    molfldd(*arguments, "--out", "samples.npz")
    code, _, err = molfldd(*arguments, "--trajectory", "--batch-size", 2, "--out", "steps.npz")
    assert code == 0
    assert "5 images generated" in err
    steps = arrays(Path("steps.npz"), "trajectories")
    assert steps.shape == (5, 5, 8, 8)
    assert (steps[:, 0] == 128).all()
    assert np.array_equal(steps[:, -1], arrays(Path("samples.npz")))
    revealed = steps[:, :-1] != 128
    assert (steps[:, 1:][revealed] == steps[:, :-1][revealed]).all()


@pytest.mark.parametrize(
    ("name", "more"), [("a.png", []), ("a.png", ["--trajectory"]), ("a.gif", ["--trajectory"])]
)
def test_pictures(molfldd, checkpoint, tmp_path, name, more):
    result = molfldd("sample", "--checkpoint", checkpoint, "--num", 4, "--out", name, *more)
    assert result[:2] == (0, "")
    assert f"written to {name}" in result[2]
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with Image.open(name) as picture:
        assert picture.format == Path(name).suffix[1:].upper()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "a.sdf"], "suffix '.sdf' is none of .png .npz"),
        (["--out", "a.gif"], "suffix '.gif' is none of .png .npz"),
        (["--out", "a.smi", "--trajectory"], "suffix '.smi' is none of .png .gif .npz"),
        (["--out", "a.xyz"], "suffix '.xyz' is none of"),
        (["--out", "nowhere/a.png"], "no directory nowhere"),
        (["--trajectory"], "--trajectory needs --out"),
        (["--steps", "5"], "not trained for 5 steps; it has: 4"),
    ],
)
def test_sample_refuses(molfldd, checkpoint, tmp_path, arguments, words):
    result = molfldd("sample", "--checkpoint", checkpoint, *arguments)
    assert result[0] == 2
    assert words in error(result)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--reference", "cifar"], 2, "no reference 'cifar'; known are: digits, mnist"),
        (["--num", "1"], 2, "at least two images"),
        (["--domain", "images"], 2, "--domain is for files"),
        (["--reference", "damaged"], 1, "is no IDX file"),
        (["--reference", "."], 2, "neither train-images-idx3-ubyte nor"),
        (["--reference", "other"], 2, "have 7 x 8 pixels, those of the model 8 x 8"),
    ],
)
def test_evaluate_refuses(molfldd, checkpoint, folders, arguments, code, words):
    result = molfldd("evaluate", checkpoint, "--num", 10, *arguments)
    assert result[0] == code
    assert words in error(result)


def test_evaluate_is_not_for_files_of_images(molfldd, tmp_path):
    (tmp_path / "a.npz").write_bytes(b"")
    result = molfldd("evaluate", "a.npz", "--domain", "images")
    assert result[0] == 2
    assert "'images' evaluates models only" in error(result)


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ("data.name=cifar", 2, "no data set 'cifar'"),
        ("data.folder=somewhere", 2, "folder is for mnist"),
        ("data.binarization=dither", 2, "data.binarization"),
        ("network.patch=3", 2, "'network.patch': 3 does not divide"),
        ("network.depth=3", 2, "'network.depth' is unknown"),
    ],
)
def test_train_refuses(molfldd, tmp_path, change, code, words):
    result = molfldd("train", "digits", "--out", "new", "--set", change, *CPU)
    assert result[0] == code
    assert words in error(result)
    assert list(tmp_path.iterdir()) == []


def test_train_refuses_a_damaged_folder(molfldd, plain, tmp_path):
    arguments = ("train", "mnist", "--out", "new", *CPU, "--set")
    assert "no folder nowhere" in error(molfldd(*arguments, "data.folder=nowhere"))
    path = plain / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-3])
    result = molfldd(*arguments, f"data.folder={plain}")
    assert result[0] == 1
    assert "truncated" in error(result)
    assert not (tmp_path / "new").exists()


def test_images_that_are_too_small_are_refused(molfldd, tmp_path, plain, idx):
    for part, count in (("train", 5), ("t10k", 5)):
        images = np.zeros((count, 2, 2), np.uint8)
        (plain / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (plain / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.zeros(count, np.uint8)))
    result = molfldd("train", "mnist", "--out", "new", *CPU, "--set", f"data.folder={plain}")
    assert result[0] == 2
    assert "too small or too few" in error(result)


def test_images_of_a_folder_can_be_trained_on(molfldd, packed):
    changes = ["--set", f"data.folder={packed}", "--set", "network.patch=2"]
    code, _, err = molfldd("train", "mnist", "--out", "run", *SET, *changes, *CPU)
    assert code == 0, err
    assert "40 training and 12 held-out examples" in err

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from molfldd.cli.main import run
from molfldd.config import override, parse_config, read_recipe
from molfldd.engine import Engine
from molfldd.molecules.cached import build_dataset
from molfldd.molecules.datasets import DATASETS, DatasetInfo
from molfldd.molecules.store import MoleculeDataset
from molfldd.run import MODEL, Run

_HEADS = ["C", "CC", "CCC", "OC", "NC", "FC", "N#C", "O=C", "C=C", "OCC"]
_TAILS = ["C", "CO", "CN", "C(C)O", "C1CC1", "C#N", "C=O"]
SMILES = [head + tail for head in _HEADS for tail in _TAILS]


@dataclass(frozen=True)
class Result:
    """What a command line did."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The only error sentence."""
        errors = [line for line in self.err.splitlines() if line.startswith("error:")]
        assert len(errors) == 1, self.err
        assert "Traceback" not in self.err + self.out
        return errors[0]


Command = Callable[..., Result]


@pytest.fixture
def molfldd(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    """The program, run in this process and in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["molfldd", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            run()
        return Result(int(caught.value.code or 0), *capfd.readouterr())

    return call


@contextmanager
def known_as_tiny(dataset: MoleculeDataset) -> Iterator[None]:
    """While the data set is registered as "tiny"."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS, "tiny", DatasetInfo(lambda: dataset, "a few molecules", "qm9"))
        yield


@pytest.fixture(scope="session")
def tiny() -> MoleculeDataset:
    return build_dataset("tiny", SMILES)[0]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _registered(
    tiny: MoleculeDataset, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    monkeypatch.setenv("MOLFLDD_CACHE", str(cache))
    with known_as_tiny(tiny):
        yield


def write_recipe(folder: Path) -> Path:
    """A recipe of five iterations on "tiny", a molecular one with two phases."""
    content = read_recipe("qm9")
    content["data"] = {"name": "tiny"}
    content["network"] |= {"layers": 1, "width": 16, "pair_width": 8, "heads": 2}
    content["process"]["steps"] = 3
    content["training"] |= {"batch_size": 4}
    content["monitor"] = {
        "log_every": 1,
        "evaluate_every": 100,
        "checkpoint_every": 100,
        "examples": 4,
        "samples": 4,
    }
    content["phases"][0]["iterations"] = 3
    content["phases"][1]["iterations"] = 2
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_recipe(tmp_path)


@pytest.fixture(scope="session")
def checkpoint(tiny: MoleculeDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of molecules; about three per cent of its samples are valid."""
    folder = tmp_path_factory.mktemp("model")
    with known_as_tiny(tiny):
        return save_untrained(read_recipe(str(write_recipe(folder))), folder)


@pytest.fixture(scope="session")
def toy_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of the two-dimensional mixture."""
    recipe = override(read_recipe("toy"), ["data.examples=100"])
    return save_untrained(recipe, tmp_path_factory.mktemp("toy"))


def save_untrained(recipe: dict[str, Any], folder: Path) -> Path:
    Run(parse_config(recipe), folder, Engine("cpu", precision="32-true")).save()
    return folder / MODEL

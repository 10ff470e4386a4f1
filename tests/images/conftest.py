import gzip
import struct
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from molfldd.cli.main import run
from molfldd.images.datasets import ImageData, ImageDataset, load_dataset

Arrays = dict[str, NDArray[np.uint8]]
Command = Callable[..., tuple[int, str, str]]
SIDE = 8


def as_idx(array: NDArray[np.uint8]) -> bytes:
    """An array as the content of an IDX file."""
    dimensions = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + dimensions + array.tobytes()


def make_folder(folder: Path, content: Mapping[str, NDArray[np.uint8]], packed: bool) -> Path:
    """A folder with an IDX file for each array."""
    folder.mkdir()
    for name, array in content.items():
        data = as_idx(array)
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(data, mtime=0) if packed else data)
    return folder


@pytest.fixture
def arrays() -> Arrays:
    """Random grey images in the files of MNIST, of two classes: bright above or below."""
    generator = np.random.default_rng(0)
    result = {}
    for part, count in (("train", 40), ("t10k", 12)):
        labels = (np.arange(count) % 2).astype(np.uint8)
        images = generator.integers(0, 100, (count, SIDE, SIDE), np.uint8)
        images[labels == 0, : SIDE // 2] += 150
        images[labels == 1, SIDE // 2 :] += 150
        result |= {f"{part}-images-idx3-ubyte": images, f"{part}-labels-idx1-ubyte": labels}
    return result


@pytest.fixture
def idx() -> Callable[[NDArray[np.uint8]], bytes]:
    return as_idx


@pytest.fixture
def packed(arrays: Arrays, tmp_path: Path) -> Path:
    return make_folder(tmp_path / "packed", arrays, packed=True)


@pytest.fixture
def plain(arrays: Arrays, tmp_path: Path) -> Path:
    return make_folder(tmp_path / "plain", arrays, packed=False)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all tests, so that each classifier is trained once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOLFLDD_CACHE", str(cache))


@pytest.fixture(scope="session")
def digits() -> ImageDataset:
    return load_dataset(ImageData())


@pytest.fixture
def molfldd(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    """The program, run in this process and in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["molfldd", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            run()
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return int(caught.value.code or 0), out, err

    return call

"""Images from folders, from a server and from scikit-learn, and how they become black and white."""

import gzip
import hashlib
import os
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from molfldd.errors import MolflddError, UsageError
from molfldd.images.datasets import (
    MNIST_FILES,
    ImageData,
    binarize,
    fetch_mnist,
    load_dataset,
    read_folder,
)

STOCHASTIC = ImageData(binarization="stochastic")


# --- binarization


def test_threshold_is_half_of_the_maximum():
    grey = np.array([0, 127, 128, 255], np.uint8)
    assert binarize(grey, 255, ImageData()).tolist() == [0, 0, 1, 1]
    assert binarize(np.array([7, 8, 16], np.uint8), 16, ImageData()).tolist() == [0, 1, 1]


@pytest.mark.parametrize("value", [0, 64, 200, 255])
def test_stochastic_pixels_are_white_as_often_as_they_are_bright(value):
    grey = np.full(40_000, value, np.uint8)
    white = binarize(grey, 255, STOCHASTIC).mean()
    assert white == pytest.approx(value / 255, abs=0.01)
    assert value not in (0, 255) or white == value / 255


def test_stochastic_draw_belongs_to_its_seed():
    grey = np.full(1000, 128, np.uint8)
    first = binarize(grey, 255, STOCHASTIC)
    assert np.array_equal(first, binarize(grey, 255, STOCHASTIC))
    other = ImageData(binarization="stochastic", seed=1)
    assert not np.array_equal(first, binarize(grey, 255, other))
    assert not np.array_equal(first, binarize(grey, 255, STOCHASTIC, stream=1))


# --- digits


def test_digits_need_no_download(digits):
    assert digits.shape == (8, 8)
    assert (len(digits.train), len(digits.test)) == (1618, 179)
    for part in (digits.train, digits.test):
        assert set(np.unique(part.pixels)) == {0, 1}
        assert set(np.unique(part.labels)) == set(range(10))


def test_fingerprint_names_the_content(digits):
    assert load_dataset(ImageData()).fingerprint == digits.fingerprint
    drawn = {load_dataset(ImageData("digits", None, "stochastic", s)).fingerprint for s in (0, 1)}
    assert len({digits.fingerprint, *drawn}) == 3


@pytest.mark.parametrize("options", [{"folder": "somewhere"}, {"seed": -1}])
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        ImageData(**options)


def test_unknown_name():
    with pytest.raises(UsageError, match="no data set 'cifar'; known are: digits, mnist"):
        load_dataset(ImageData("cifar"))


# --- folders


def test_packed_and_plain_folders_hold_the_same(plain, packed, arrays):
    dataset = read_folder(plain)
    assert dataset.fingerprint == read_folder(packed).fingerprint
    assert np.array_equal(dataset.test.pixels, arrays["t10k-images-idx3-ubyte"])
    loaded = load_dataset(ImageData("mnist", str(packed)))
    assert np.array_equal(loaded.train.pixels, arrays["train-images-idx3-ubyte"] >= 128)
    assert np.array_equal(loaded.train.labels, arrays["train-labels-idx1-ubyte"])


def test_missing_folder_and_files(plain, tmp_path):
    with pytest.raises(UsageError, match="no folder"):
        read_folder(tmp_path / "nowhere")
    (plain / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(UsageError, match=r"neither t10k-labels-idx1-ubyte nor .*\.gz"):
        read_folder(plain)


def test_images_must_fit_their_labels_and_each_other(plain, arrays, idx):
    path = plain / "t10k-labels-idx1-ubyte"
    path.write_bytes(idx(arrays[path.name][:-1]))
    with pytest.raises(MolflddError, match="12 images and 11 labels"):
        read_folder(plain)
    path.write_bytes(idx(arrays[path.name]))
    path = plain / "t10k-images-idx3-ubyte"
    path.write_bytes(idx(arrays[path.name][:, :-1]))
    with pytest.raises(MolflddError, match=r"\(8, 8\) and held-out ones \(7, 8\)"):
        read_folder(plain)


# --- download


@pytest.fixture
def served(packed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a server that offers the packed folder."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(packed))) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOLFLDD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def checksums(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in MNIST_FILES}


def cached(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_downloaded_files_are_those_of_the_server(served, packed, own_cache):
    folder = fetch_mnist([served], checksums(packed))
    assert cached(own_cache) == set(MNIST_FILES)
    assert read_folder(folder).fingerprint == read_folder(packed).fingerprint
    assert fetch_mnist(["http://127.0.0.1:9/"], checksums(packed)) == folder


def test_other_content_is_refused_and_not_kept(served, packed, own_cache):
    with pytest.raises(MolflddError, match=r"SHA-256 differs.*data\.folder"):
        fetch_mnist([served])
    assert cached(own_cache) == set()


def test_missing_file_on_the_server_keeps_what_is_whole(served, packed, own_cache):
    expected = checksums(packed)
    missing = list(MNIST_FILES)[-1]
    (packed / missing).unlink()
    with pytest.raises(MolflddError, match=rf"{missing}.*404"):
        fetch_mnist([served], expected)
    assert cached(own_cache) == set(MNIST_FILES) - {missing}


# --- the real files


@pytest.mark.skipif(
    "MOLFLDD_TEST_DATA" not in os.environ, reason="MOLFLDD_TEST_DATA names no directory"
)
def test_real_mnist():
    """Needs mnist/ with the four packed files in the directory MOLFLDD_TEST_DATA."""
    folder = Path(os.environ["MOLFLDD_TEST_DATA"]) / "mnist"
    assert checksums(folder) == MNIST_FILES
    dataset = load_dataset(ImageData("mnist", str(folder)))
    assert (len(dataset.train), len(dataset.test), dataset.shape) == (60_000, 10_000, (28, 28))
    assert np.bincount(dataset.test.labels)[:3].tolist() == [980, 1135, 1032]
    with gzip.open(folder / "t10k-images-idx3-ubyte.gz") as file:
        assert file.read(4).hex() == "00000803"

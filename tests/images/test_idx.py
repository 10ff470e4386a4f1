"""The file format of MNIST, whole and damaged."""

import gzip

import numpy as np
import pytest

from molfldd.errors import MolflddError
from molfldd.images.idx import read_idx

ARRAY = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


@pytest.mark.parametrize("name", ["file", "file.gz"])
def test_array_comes_back_plain_and_packed(tmp_path, idx, name):
    content = idx(ARRAY)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    found = read_idx(tmp_path / name, 3)
    assert found.dtype == np.uint8
    assert np.array_equal(found, ARRAY)


def test_header_is_that_of_the_format(idx):
    """As MNIST's own files begin: 00000803, then big-endian counts."""
    assert idx(ARRAY)[:16].hex() == "00000803000000020000000300000004"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: b"\x00\x00\x0d\x03" + content[4:], "begins with 00000d03"),
        (lambda content: b"", "begins with nothing"),
        (lambda content: b"not an IDX file at all", "is no IDX file"),
        (lambda content: content[:-1], "has 39 bytes and not 40"),
        (lambda content: content + b"x", "has 41 bytes and not 40"),
        (lambda content: content[:9], "truncated"),
    ],
)
def test_damaged_content_is_refused(tmp_path, idx, change, words):
    path = tmp_path / "images"
    path.write_bytes(change(idx(ARRAY)))
    with pytest.raises(MolflddError, match=words) as caught:
        read_idx(path, 3)
    assert str(path) in str(caught.value)


def test_labels_are_no_images(tmp_path, idx):
    path = tmp_path / "labels"
    path.write_bytes(idx(ARRAY.flatten()))
    assert read_idx(path, 1).shape == (24,)
    with pytest.raises(MolflddError, match="in 3 dimensions"):
        read_idx(path, 3)


@pytest.mark.parametrize("kept", [0, 5, 20, -4])
def test_truncated_archive_is_refused(tmp_path, idx, kept):
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx(ARRAY))[:kept])
    with pytest.raises(MolflddError, match=r"images\.gz"):
        read_idx(path, 3)


def test_missing_file(tmp_path):
    with pytest.raises(MolflddError, match=r"cannot read .*nothing"):
        read_idx(tmp_path / "nothing", 3)

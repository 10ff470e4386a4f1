from pathlib import Path

import numpy as np
import pytest

from molfldd.errors import MolflddError
from molfldd.mapped import Pieces, read_mapped, write_mapped

BONDS = np.arange(21, dtype=np.uint8).reshape(7, 3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    arrays = {
        "ids": Pieces("int64", (2,), [np.array([5, 2**40])]),
        "bonds": Pieces("uint8", (7, 3), (BONDS[start : start + 3] for start in (0, 3, 6))),
        "nothing": Pieces("uint8", (7, 0), []),
    }
    write_mapped(path, arrays, {"name": "x", "odd": '"\n'})
    return path


def test_arrays_come_back(path: Path) -> None:
    arrays, metadata = read_mapped(path)
    assert metadata == {"name": "x", "odd": '"\n'}
    assert arrays["ids"].tolist() == [5, 2**40]
    assert arrays["ids"].flags.aligned
    assert np.array_equal(arrays["bonds"], BONDS)
    assert arrays["nothing"].shape == (7, 0)


def test_arrays_are_mapped_not_read(tmp_path: Path) -> None:
    size = 2**26
    pieces = Pieces("uint8", (8, size // 8), (np.ones(size // 8, np.uint8) for _ in range(8)))
    write_mapped(tmp_path / "large", {"large": pieces}, {})
    before = resident()
    arrays, _ = read_mapped(tmp_path / "large")
    assert resident() - before < size / 4
    assert arrays["large"][7, -1] == 1


def resident() -> int:
    """Bytes of memory that this process holds, mapped files included; 0 where it is unknown."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * 4096 if statm.exists() else 0


def test_a_file_of_another_length_is_damaged(path: Path) -> None:
    content = path.read_bytes()
    for other in (content[:-1], content + b"x", content[:10], b""):
        path.write_bytes(other)
        with pytest.raises(MolflddError, match="is damaged"):
            read_mapped(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MolflddError, match="is damaged"):
        read_mapped(tmp_path / "none")

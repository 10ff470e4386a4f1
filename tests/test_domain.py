"""Which domain a file belongs to, by what it begins with."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from molfldd.domain import domain_of_file

STORY = "I went to the shop.\nShe was in the garden.\n\nTom lost his hat today.\n"
SENTENCES = ",".join(f"sentence{n}" for n in range(1, 6))


@pytest.mark.parametrize(
    ("name", "content", "domain"),
    [
        ("a.smi", "CCO\nc1ccccc1\n", "molecules"),
        ("a.txt", "CCO ethanol\nc1ccccc1 benzene, a ring\n", "molecules"),
        ("a.txt", "CCO\nno\n\nCCN\n", "molecules"),
        ("a.csv", "id,smiles\nx1,CCO\nx2,CCN\n", "molecules"),
        ("a.txt", STORY, "text"),
        ("a.csv", f"storyid,storytitle,{SENTENCES}\n1,Hat,Tom had a hat.,B.,C.,D.,E.\n", "text"),
        ("a.txt", "", "molecules"),
        ("a.csv", "a,b\n1,2\n", "molecules"),
        ("a.npz", "\0", "molecules"),
    ],
)
def test_a_file_is_recognized(tmp_path: Path, name: str, content: str, domain: str) -> None:
    plain, packed = tmp_path / name, tmp_path / f"{name}.gz"
    plain.write_text(content)
    packed.write_bytes(gzip.compress(content.encode()))
    assert domain_of_file(plain).name == domain_of_file(packed).name == domain


def test_a_missing_or_binary_file_is_left_to_molecules(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(bytes(range(256)))
    for name in ("a.txt", "missing.txt", "missing.smi"):
        assert domain_of_file(tmp_path / name).name == "molecules"

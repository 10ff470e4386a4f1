"""Texts from files and to files."""

import gzip
from pathlib import Path

import pytest

from molfldd.errors import UsageError
from molfldd.text.files import one_line, read_texts, write_texts

CSV = """storyid,storytitle,sentence1,sentence2,sentence3,sentence4,sentence5
1,A walk,"Tom, my friend, went out.",It rained. ,He said "no".,He ran.,He slept.
2,Short,One.,,,,
"""
STORIES = ['Tom, my friend, went out. It rained. He said "no". He ran. He slept.', "One."]


def test_one_text_a_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\ufeffA b.\n\n  C  d. \nlast\x0b\u2028line", encoding="utf-8")
    assert read_texts(path) == ["A b.", "", "C  d.", "last\x0b\u2028line"]


def test_official_csv(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(CSV)
    assert read_texts(path) == STORIES


@pytest.mark.parametrize("name", ["a.csv.gz", "A.CSV.GZ"])
def test_packed(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with gzip.open(path, "wt") as file:
        file.write(CSV)
    assert read_texts(path) == STORIES


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.doc", b"x", "the suffix '.doc' is none of .txt .csv"),
        ("a.txt", b"\xff\xfe\x00", "codec can't decode"),
        ("a.csv", b"id,text\n1,x\n", "it has no column 'sentence1'"),
        ("a.csv", b"", "it has no column 'sentence1'"),
        ("a.txt.gz", b"plain", "check the path and the format"),
        ("a.txt.gz", gzip.compress(b"x" * 999)[:12] + b"\xff" * 9, "check the path and the format"),
        ("b.txt", None, "No such file"),
    ],
)
def test_bad_input(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match="cannot read") as caught:
        read_texts(path)
    assert message in str(caught.value)


def test_written_texts_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_texts(path, ["a b", "c\nd\re", "", "f\u2028g"])
    assert read_texts(path) == ["a b", "c d e", "", "f\u2028g"]
    assert one_line("a\r\nb") == "a  b"

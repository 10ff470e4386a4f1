import json
import subprocess
import sys
import textwrap
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from molfldd.errors import MolflddError
from molfldd.mapped import read_mapped
from molfldd.molecules import preparation
from molfldd.molecules.codec import decode, to_smiles
from molfldd.molecules.parsing import Entry, Rules, parse_chunk
from molfldd.molecules.preparation import REPEATED, Source, exclusively, prepare
from molfldd.molecules.store import CACHE_FORMAT, read_dataset
from molfldd.molecules.vocabulary import Vocabulary
from molfldd.splitting import content_key

CHAINS = ["C" * n + tail for n in range(1, 12) for tail in ("", "O", "N", "C#N", "C(=O)[O-]")]


def source(*smiles: str, **options: object) -> Source:
    entries = list(enumerate(smiles, start=1))
    return Source("lines", "1", {"all": lambda: entries}, **options)  # type: ignore[arg-type]


def test_what_is_written(tmp_path: Path) -> None:
    prepare(source("OCC", "x", "C", "N#C"), tmp_path / "set")
    arrays, metadata = read_mapped(tmp_path / "set")
    assert arrays["ids"].tolist() == [1, 3, 4]
    assert arrays["sizes"].tolist() == [3, 1, 2]
    assert arrays["atoms"].tolist() == [[0, 0, 2], [0, 0, 0], [0, 1, 0]]
    assert arrays["bonds"].tolist() == [[1, 0, 1], [0, 0, 0], [3, 0, 0]]
    assert bytes(arrays["text"]) == b"CCO\nC\nC#N\n"
    assert json.loads(metadata["vocabulary"]) == ["C", "N", "O"]
    assert json.loads(metadata["report"])["skipped"] == {"not a SMILES": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_every_graph_decodes_to_its_smiles(tmp_path: Path) -> None:
    prepare(source(*CHAINS), tmp_path / "set")
    dataset = read_dataset(tmp_path / "set")
    assert len(dataset) == len(CHAINS)
    for index, smiles in enumerate(dataset.smiles):
        assert to_smiles(decode(*dataset.graph(index), dataset.vocabulary)) == smiles


def test_chunks_make_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(source(*CHAINS), tmp_path / "set")
    monkeypatch.setattr(preparation, "_ROWS", 7)
    monkeypatch.setattr("molfldd.molecules.parsing.CHUNK", 4)
    monkeypatch.setattr("molfldd.molecules.parsing.processors", lambda: 1)
    prepare(source(*CHAINS), tmp_path / "other")
    assert (tmp_path / "set").read_bytes() == (tmp_path / "other").read_bytes()


def test_single_atoms_only(tmp_path: Path) -> None:
    prepare(source("C", "N"), tmp_path / "set")
    assert read_dataset(tmp_path / "set").bonds.shape == (2, 0)


def test_distinct_molecules_are_ordered_by_hash(tmp_path: Path) -> None:
    prepare(source("OCC", "C", "CCO", "CN", "C(O)C", "C", distinct=True), tmp_path / "set")
    dataset = read_dataset(tmp_path / "set")
    assert dataset.smiles == sorted(["CCO", "C", "CN"], key=content_key)
    assert sorted(dataset.ids.tolist()) == [1, 2, 4]
    assert dataset.report is not None
    assert dataset.report.skipped == {REPEATED: 3}
    assert dataset.report.kept == 3
    assert dataset.report.examples[REPEATED] == [(3, "CCO"), (5, "CCO"), (6, "C")]


def test_parts_follow_each_other(tmp_path: Path) -> None:
    parts = {
        "train": lambda: [(1, "CCO"), (2, "x")],
        "test": lambda: [(1, "CS"), (2, "CCCC")],
        "none": list,
    }
    prepare(Source("parts", "1", parts), tmp_path / "set")
    dataset = read_dataset(tmp_path / "set")
    assert dataset.parts == {"train": 1, "test": 2, "none": 0}
    assert dataset.part("test").smiles == ["CS", "CCCC"]
    assert dataset.part("test").ids.tolist() == [1, 2]
    assert dataset.part("train").max_atoms == 4
    assert len(dataset.part("none")) == 0
    with pytest.raises(KeyError):
        dataset.part("validation")


def test_a_given_vocabulary_is_kept(tmp_path: Path) -> None:
    vocabulary = Vocabulary.from_json(["S", "O", "C"])
    prepare(source("CCO", "CN", rules=Rules(vocabulary=vocabulary)), tmp_path / "set")
    dataset = read_dataset(tmp_path / "set")
    assert dataset.vocabulary == vocabulary
    assert dataset.atoms.tolist() == [[2, 2, 1]]


def test_nothing_usable_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(MolflddError, match=r"no molecule of lines can be used: 2 read.*2 not a S"):
        prepare(source("C1CC", "?"), tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


def test_a_failing_source_leaves_nothing(tmp_path: Path) -> None:
    def failing() -> Iterator[Entry]:
        yield 1, "CCO"
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        prepare(Source("failing", "1", {"all": failing}), tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("last", ["write_mapped", "seal_dataset"])
def test_an_interrupted_preparation_is_noticed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], last: str
) -> None:
    code = f"""
    import os
    from pathlib import Path
    from molfldd.molecules.preparation import Source, prepare
    from molfldd.molecules import preparation

    preparation.{last} = lambda *_: os._exit(1)
    prepare(Source("killed", "1", {{"all": lambda: [(1, "CCO")]}}), Path({str(tmp_path)!r}) / "set")
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert [path.name for path in tmp_path.iterdir()] == [".set.partial"]
    prepare(source("CCO"), tmp_path / "set")
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "was interrupted; starting again" in error
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MolflddError, match="MOLFLDD_CACHE"):
        prepare(source("CCO"), tmp_path / "file" / "set")
    with pytest.raises(MolflddError, match="MOLFLDD_CACHE"), exclusively(tmp_path / "file" / "s"):
        pass


def test_one_preparation_at_a_time(tmp_path: Path) -> None:
    events: list[str] = []

    def other() -> None:
        with exclusively(tmp_path / "set"):
            events.append("other")

    with exclusively(tmp_path / "set"):
        thread = Thread(target=other)
        thread.start()
        thread.join(0.2)
        events.append("first")
    thread.join()
    assert events == ["first", "other"]


def most_held(count: int, path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Bytes of memory held at most while so many molecules of 20 atoms are prepared."""
    chunk = parse_chunk([(n, "C" * 20) for n in range(200)], Rules())
    monkeypatch.setattr(preparation, "parse_all", lambda *_: (chunk for _ in range(count // 200)))
    tracemalloc.start()
    prepare(Source("many", "1", {"all": list}), path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "_ROWS", 200)
    few, many = (most_held(n, tmp_path / str(n), monkeypatch) for n in (5_000, 25_000))
    written = (tmp_path / "25000").stat().st_size / 25_000
    assert written > 230
    assert (many - few) / 20_000 < 100


Damage = Callable[[bytes], bytes]


_FORMAT = f'"format": "{CACHE_FORMAT}"'.encode()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: content + b"x",
        lambda content: b"",
        lambda content: b"nonsense",
        lambda content: content[:-40] + bytes([content[-40] ^ 1]) + content[-39:],
        lambda content: content.replace(b'"parts": "{', b'"parts": "['),
        lambda content: content.replace(b"lines", b"lunes"),
        lambda content: content.replace(_FORMAT, b'"format": "9"'),
    ],
)
def test_damage_is_noticed(tmp_path: Path, damage: Damage) -> None:
    path = tmp_path / "set"
    prepare(source(*CHAINS), path)
    content = path.read_bytes()
    assert damage(content) != content
    path.write_bytes(damage(content))
    with pytest.raises(MolflddError, match="must be built again"):
        read_dataset(path)


def test_every_byte_is_guarded(tmp_path: Path) -> None:
    path = tmp_path / "set"
    prepare(source("CCO", "CN"), path)
    content = path.read_bytes()
    for place in np.random.default_rng(0).choice(len(content), 60, replace=False).tolist():
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with pytest.raises(MolflddError):
            read_dataset(path)

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from molfldd.errors import MolflddError
from molfldd.molecules import parsing
from molfldd.molecules.codec import num_pairs, typed_graph
from molfldd.molecules.parsing import Entry, Rules, parse_all, parse_chunk, parse_entry
from molfldd.molecules.vocabulary import Vocabulary
from molfldd.splitting import content_key

SPECIAL = "with radicals, isotopes, map numbers, wildcards or special bonds"
CHAINS = list(enumerate(("C" * n + tail for n in range(1, 30) for tail in ("", "O", "N")), 1))


@pytest.mark.parametrize(
    ("smiles", "reason"),
    [
        ("", "without a SMILES"),
        ("C1CC", "not a SMILES"),
        ("CF(C)C", "not a SMILES"),
        ("CC.Cl", "in several fragments (salts, mixtures)"),
        ("[Na+].[Cl-]", "in several fragments (salts, mixtures)"),
        ("CCCCC", "with more than 4 atoms"),
        ("[CH3]", SPECIAL),
        ("[13CH4]", SPECIAL),
        ("C*", SPECIAL),
        ("[CH3:1]C", SPECIAL),
        ("N->[Fe]", SPECIAL),
        ("C[NH3+]", "with N+, not in the vocabulary"),
        ("CS", "with S, not in the vocabulary"),
    ],
)
def test_reasons(smiles: str, reason: str) -> None:
    rules = Rules(4, Vocabulary.from_json(["C", "N", "O", "Na+", "Cl-", "Cl", "Fe"]))
    assert parse_entry(smiles, rules) == reason


def test_a_hydrogen_that_is_written_is_no_atom() -> None:
    """Neither in the size nor in the order of the atoms."""
    written = parse_entry("[H]/N=C(/C)N", Rules(4))
    implied = parse_entry("CC(N)=N", Rules(4))
    assert not isinstance(written, str)
    assert not isinstance(implied, str)
    assert written[0] == implied[0] == "CC(=N)N"
    assert written[1].atoms == implied[1].atoms
    assert (written[1].bonds == implied[1].bonds).all()
    assert parse_entry("[H]/N=C(/CC)N", Rules(4)) == "with more than 4 atoms"


def test_usable_molecules_have_graphs() -> None:
    parsed = parse_entry("OC(C)=O", Rules(4))
    assert not isinstance(parsed, str)
    assert parsed[0] == "CC(=O)O"
    assert len(parsed[1].atoms) == 4


def test_a_chunk_is_flat() -> None:
    parsed = parse_chunk([(3, "OCC"), (4, "C1CC"), (9, "CN"), (12, "")], Rules())
    assert parsed.smiles == ["CCO", "CN"]
    assert parsed.numbers.tolist() == [3, 9]
    assert parsed.sizes.tolist() == [3, 2]
    assert parsed.kinds == (("C", 0), ("O", 0), ("N", 0))
    assert parsed.atoms.tolist() == [1, 1, 2, 1, 3]
    assert parsed.bonds.tolist() == [1, 0, 1, 1]
    assert parsed.keys.tolist() == [content_key("CCO"), content_key("CN")]
    assert parsed.report.examples == {
        "not a SMILES": [(4, "C1CC")],
        "without a SMILES": [(12, "")],
    }


def test_a_chunk_of_nothing() -> None:
    parsed = parse_chunk([(1, "C1CC")], Rules())
    assert len(parsed.sizes) == len(parsed.atoms) == len(parsed.bonds) == 0
    assert (parsed.report.read, parsed.report.kept) == (1, 0)


def test_only_the_first_of_many_are_shown() -> None:
    report = parse_chunk([(n, "?") for n in range(1, 9)], Rules()).report
    assert report.skipped == {"not a SMILES": 8}
    assert [number for number, _ in report.examples["not a SMILES"]] == [1, 2, 3]


def flat(entries: list[Entry]) -> tuple[list[str], list[int], bytes]:
    parsed = list(parse_all(entries, Rules()))
    smiles = [entry for part in parsed for entry in part.smiles]
    numbers = [number for part in parsed for number in part.numbers.tolist()]
    return smiles, numbers, b"".join(part.bonds.tobytes() for part in parsed)


def test_processes_give_the_same_in_the_same_order(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = flat(CHAINS)
    monkeypatch.setattr(parsing, "CHUNK", 20)
    monkeypatch.setattr(parsing, "processors", lambda: 1)
    assert flat(CHAINS) == expected
    monkeypatch.setattr(parsing, "processors", lambda: 2)
    assert flat(CHAINS) == expected


def test_only_a_few_chunks_are_read_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "CHUNK", 2)
    monkeypatch.setattr(parsing, "processors", lambda: 1)
    asked = 0

    def entries() -> Iterator[Entry]:
        nonlocal asked
        for entry in CHAINS:
            asked += 1
            yield entry

    next(parse_all(entries(), Rules()))
    assert asked == 4


class Deadly(Rules):
    """Rules that end the process they are sent to."""

    def __reduce__(self) -> Any:
        return os.abort, ()


def test_a_process_that_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "CHUNK", 50)
    monkeypatch.setattr(parsing, "processors", lambda: 2)
    with pytest.raises(MolflddError, match="want of memory"):
        list(parse_all(CHAINS, Deadly()))


def test_sizes_and_graphs_agree() -> None:
    parsed = parse_chunk(CHAINS, Rules())
    pairs = [num_pairs(n) for n in parsed.sizes.tolist()]
    assert parsed.bonds.size == sum(pairs)
    last = typed_graph(parsing.parse_smiles(parsed.smiles[-1]))[1]
    assert np.array_equal(parsed.bonds[-pairs[-1] :], last.bonds)

"""Denominators, missing scores and the protocol of reports, on molecules made by hand."""

import io
import json
from pathlib import Path

import pytest
from rdkit import Chem, rdBase
from rich.console import Console
from rich.table import Table

from molfldd.errors import UsageError
from molfldd.molecules.evaluation import SCORES, evaluate, fcd_gdss
from molfldd.molecules.fcd import content_hash, fcd
from molfldd.report import Comparison, Report


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOLFLDD_CACHE", str(tmp_path / "cache"))


def raw(*smiles: str) -> list[Chem.Mol]:
    return [Chem.MolFromSmiles(entry, sanitize=False) for entry in smiles]


SAMPLES = [
    *raw("CCO", "OCC", "C[C@H](N)O", "c1ccncc1"),  # valid
    *raw("CC.O", "CN(C)(C)C", "CC(C)(C)(C)C"),  # a fragment too many, a charge missing, hopeless
    None,
]
REFERENCE = ["CCO", "C[C@H](N)O", "C/C=C/C", "CCCC", "CC#N"]


def text(table: Table) -> str:
    written = io.StringIO()
    Console(width=160, file=written).print(table)
    return written.getvalue()


def scored(
    molecules: list[Chem.Mol | None], reference: list[str] | None, training: list[str] | None
) -> Report:
    return evaluate([molecules], Comparison(reference, training))


def test_denominators() -> None:
    scores = scored(SAMPLES, None, ["CC(O)N", "CCO"]).mean
    assert scores["valid"] == 4 / 8
    assert scores["valid_fragment"] == 5 / 8
    assert scores["valid_gdss"] == 6 / 8
    assert scores["connected"] == 6 / 8
    assert scores["unique"] == 3 / 4
    assert scores["unique_of_all"] == 3 / 8
    assert scores["novel"] == 2 / 3
    assert scores["novel_of_all"] == 2 / 8


def test_novelty_ignores_stereo() -> None:
    scores = scored(SAMPLES, None, ["C[C@@H](N)O", "CCO"]).mean
    assert scores["novel_of_all"] == 1 / 8


def test_samples_that_fail_stay_in_the_denominator() -> None:
    before, after = scored(SAMPLES, None, []), scored([*SAMPLES, *[None] * 8], None, [])
    for name in ("valid", "valid_fragment", "valid_gdss", "connected", "unique_of_all"):
        assert after.mean[name] == before.mean[name] / 2
    assert after.mean["unique"] == before.mean["unique"]
    assert after.mean["novel"] == before.mean["novel"] == 1


def test_fcd_keeps_repetitions_and_leaves_out_what_is_not_valid() -> None:
    report = scored(SAMPLES, REFERENCE, None)
    valid = ["CCO", "CCO", "CC(N)O", "c1ccncc1"]
    without = ["CCO", "CC(N)O", "CC=CC", "CCCC", "CC#N"]
    assert report.mean["fcd"] == pytest.approx(fcd(valid, REFERENCE), abs=1e-9)
    assert report.mean["fcd_nostereo"] == pytest.approx(fcd(valid, without), abs=1e-9)
    assert report.mean["fcd"] != report.mean["fcd_nostereo"]
    assert scored(SAMPLES, without, None).mean["fcd_nostereo"] is None


def test_fcd_of_gdss_uses_every_molecule() -> None:
    corrected = ["CCO", "CCO", "CC(N)O", "c1ccncc1", "CC", "C[N+](C)(C)C", "CC(C)(C)C"]
    assert fcd_gdss(SAMPLES, REFERENCE) == pytest.approx(fcd(corrected, REFERENCE), abs=1e-9)


@pytest.mark.parametrize("molecules", [[None, None], raw("CCO"), raw("CC.O", "C.C")])
def test_fewer_than_two_valid_molecules_have_no_fcd(molecules: list[Chem.Mol | None]) -> None:
    report = scored(molecules, REFERENCE, ["CCO"])
    assert report.mean["fcd"] is None
    assert report.mean["fcd_nostereo"] is None
    assert json.loads(json.dumps(report.to_json(), allow_nan=False))["mean"]["fcd"] is None


def test_without_a_valid_molecule_nothing_is_unique() -> None:
    scores = scored([None], None, ["CCO"]).mean
    assert (scores["valid"], scores["unique"], scores["novel"]) == (0, None, None)
    assert (scores["unique_of_all"], scores["novel_of_all"]) == (0, 0)


def test_without_molecules() -> None:
    with pytest.raises(UsageError, match="no molecules"):
        scored([], None, None)


def test_protocol_is_part_of_the_report() -> None:
    report = scored(SAMPLES, REFERENCE, ["CCO", "CCC"])
    protocol = json.loads(json.dumps(report.to_json()))["protocol"]
    assert protocol["samples"] == 8
    assert protocol["training"] == 2
    assert protocol["reference"] == 5
    assert protocol["reference_sha256"] == content_hash(REFERENCE)
    assert protocol["reference_stereo"] is True
    assert protocol["rdkit"] == rdBase.rdkitVersion
    assert protocol["correction"] == "none"
    shown = text(report.table())
    assert content_hash(REFERENCE) in shown
    assert rdBase.rdkitVersion in shown
    assert "8 samples" in shown
    assert "50.00 %" in shown


def test_every_score_is_in_the_table() -> None:
    report = scored(SAMPLES, None, None)
    assert list(SCORES) == list(report.runs[0])
    assert all(name in text(report.table()) for name in SCORES)

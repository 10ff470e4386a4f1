"""Denominators, missing scores and the protocol of reports, on molecules made by hand."""

import io
import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from rdkit import Chem, rdBase
from rich.console import Console
from rich.table import Table

from molfldd.errors import MolflddError, UsageError
from molfldd.molecules.evaluation import MEANING, Report, evaluate, fcd_gdss, summarize
from molfldd.molecules.fcd import content_hash, fcd


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


def test_denominators() -> None:
    scores = evaluate(SAMPLES, None, ["CC(O)N", "CCO"]).scores
    assert scores.valid == 4 / 8
    assert scores.valid_fragment == 5 / 8
    assert scores.valid_gdss == 6 / 8
    assert scores.connected == 6 / 8
    assert scores.unique == 3 / 4
    assert scores.unique_of_all == 3 / 8
    assert scores.novel == 2 / 3
    assert scores.novel_of_all == 2 / 8


def test_novelty_ignores_stereo() -> None:
    scores = evaluate(SAMPLES, None, ["C[C@@H](N)O", "CCO"]).scores
    assert scores.novel_of_all == 1 / 8


def test_samples_that_fail_stay_in_the_denominator() -> None:
    before, after = evaluate(SAMPLES, None, []), evaluate([*SAMPLES, *[None] * 8], None, [])
    for name in ("valid", "valid_fragment", "valid_gdss", "connected", "unique_of_all"):
        assert getattr(after.scores, name) == getattr(before.scores, name) / 2
    assert after.scores.unique == before.scores.unique
    assert after.scores.novel == before.scores.novel == 1


def test_fcd_keeps_repetitions_and_leaves_out_what_is_not_valid() -> None:
    report = evaluate(SAMPLES, REFERENCE, None)
    valid = ["CCO", "CCO", "CC(N)O", "c1ccncc1"]
    without = ["CCO", "CC(N)O", "CC=CC", "CCCC", "CC#N"]
    assert report.scores.fcd == pytest.approx(fcd(valid, REFERENCE), abs=1e-9)
    assert report.scores.fcd_nostereo == pytest.approx(fcd(valid, without), abs=1e-9)
    assert report.scores.fcd != report.scores.fcd_nostereo
    assert evaluate(SAMPLES, without, None).scores.fcd_nostereo is None


def test_fcd_of_gdss_uses_every_molecule() -> None:
    corrected = ["CCO", "CCO", "CC(N)O", "c1ccncc1", "CC", "C[N+](C)(C)C", "CC(C)(C)C"]
    assert fcd_gdss(SAMPLES, REFERENCE) == pytest.approx(fcd(corrected, REFERENCE), abs=1e-9)


@pytest.mark.parametrize("molecules", [[None, None], raw("CCO"), raw("CC.O", "C.C")])
def test_fewer_than_two_valid_molecules_have_no_fcd(molecules: list[Chem.Mol | None]) -> None:
    report = evaluate(molecules, REFERENCE, ["CCO"])
    assert report.scores.fcd is None
    assert report.scores.fcd_nostereo is None
    assert json.loads(json.dumps(report.to_json(), allow_nan=False))["scores"]["fcd"] is None


def test_without_a_valid_molecule_nothing_is_unique() -> None:
    scores = evaluate([None], None, ["CCO"]).scores
    assert (scores.valid, scores.unique, scores.novel) == (0, None, None)
    assert (scores.unique_of_all, scores.novel_of_all) == (0, 0)


def test_without_molecules() -> None:
    with pytest.raises(UsageError, match="no molecules"):
        evaluate([], None, None)


def test_protocol_is_part_of_the_report() -> None:
    report = evaluate(SAMPLES, REFERENCE, ["CCO", "CCC"])
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


def test_every_score_has_a_meaning() -> None:
    report = evaluate(SAMPLES, None, None)
    assert list(MEANING) == list(asdict(report.scores))
    assert all(name in text(report.table()) for name in MEANING)


def with_scores(report: Report, valid: float, distance: float | None) -> Report:
    return replace(report, scores=replace(report.scores, valid=valid, fcd=distance))


def test_summary_is_mean_and_standard_deviation() -> None:
    report = evaluate(SAMPLES, None, None)
    runs = [with_scores(report, valid, distance) for valid, distance in ((0.8, 1.0), (0.9, 2.0))]
    summary = summarize(runs)
    assert summary.runs == 2
    assert summary.protocol == report.protocol
    assert summary.mean.valid == pytest.approx(0.85)
    assert summary.spread["valid"] == pytest.approx(0.05 * math.sqrt(2))
    assert summary.mean.fcd == pytest.approx(1.5)
    assert summary.spread["connected"] == 0
    assert summary.mean.novel is None
    assert "85.00 %" in text(summary.table())
    json.dumps(summary.to_json(), allow_nan=False)


def test_a_score_missing_in_one_run_is_missing_in_the_summary() -> None:
    report = evaluate(SAMPLES, None, None)
    summary = summarize([with_scores(report, 0.8, 1.0), with_scores(report, 0.8, None)])
    assert summary.mean.fcd is None
    assert summary.spread["fcd"] is None


def test_one_run_has_no_spread() -> None:
    assert set(summarize([evaluate(SAMPLES, None, None)]).spread.values()) == {None}


def test_runs_of_different_protocols_are_not_averaged() -> None:
    with pytest.raises(MolflddError, match="different protocols"):
        summarize([evaluate(SAMPLES, None, None), evaluate(SAMPLES[1:], None, None)])
    with pytest.raises(UsageError, match="no reports"):
        summarize([])

"""``molfldd evaluate`` as a user runs it."""

import json
from pathlib import Path

import pytest
from program import Command, files


def test_evaluate_file_counts_broken_lines(molfldd: Command, tmp_path: Path) -> None:
    path = tmp_path / "some.smi"
    path.write_text("CCO\n\nnonsense\nCCO\nC1CC\nCC.O\n")
    result = molfldd("evaluate", path)
    assert result.code == 0
    assert "6 read, 5 kept, 1 skipped" in result.err
    assert "2 of the kept cannot be parsed" in result.err
    assert "33.33 %" in result.out
    assert "RDKit" in result.out


def test_evaluate_counts_the_invalid_rows_of_a_csv(
    molfldd: Command, checkpoint: Path, tmp_path: Path
) -> None:
    path, report = tmp_path / "samples.csv", tmp_path / "report.json"
    molfldd("sample", "--num", 200, "--checkpoint", checkpoint, "--out", path)
    molfldd("evaluate", path, "--out", report)
    molfldd(
        "evaluate", checkpoint, "--num", 200, "--reference", "none", "--out", tmp_path / "b.json"
    )
    scores = json.loads(report.read_text())["mean"]
    assert scores["valid"] == json.loads((tmp_path / "b.json").read_text())["mean"]["valid"]
    assert 0 < scores["valid"] < 0.2


def test_evaluate_against_a_dataset(molfldd: Command, tmp_path: Path) -> None:
    path, report = tmp_path / "some.smi", tmp_path / "report.json"
    path.write_text("CCO\nCCN\nCCCCCCC\n")
    result = molfldd("evaluate", path, "--reference", "tiny", "--out", report)
    assert result.code == 0
    content = json.loads(report.read_text())
    assert content["input"] == str(path)
    assert content["mean"]["fcd"] > 0
    assert content["mean"]["novel"] is not None
    assert content["protocol"]["training"] + content["protocol"]["reference"] == 70
    again = molfldd("evaluate", path, "--reference", path)
    assert again.code == 0


def test_evaluate_model_with_several_seeds(
    molfldd: Command, checkpoint: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    result = molfldd(
        *("evaluate", checkpoint, "--num", 120, "--reference", "none"),
        *("--seed", 0, "--seed", 1, "--out", report),
    )
    assert result.code == 0
    assert "2 runs" in result.out
    content = json.loads(report.read_text())
    assert content["seeds"] == [0, 1]
    assert len(content["seconds"]) == 2
    assert min(content["seconds"]) > 0
    assert (content["joint"], content["temperature"], content["min_p"]) == ("balanced", 1.0, 0.0)
    assert content["runs"] == 2
    assert content["protocol"]["samples"] == 120


def test_evaluate_model_compares_with_its_own_data(
    molfldd: Command, checkpoint: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report.json"
    assert molfldd("evaluate", checkpoint, "--num", 200, "--out", report).code == 0
    assert json.loads(report.read_text())["protocol"]["training"] > 50


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.smi"], "missing.smi"),
        (["some.docx"], ".docx"),
        (["some.smi", "--out", "report.txt"], ".json"),
        (["some.smi", "--out", "nowhere/report.json"], "there is no directory nowhere"),
        (["some.smi", "--reference", "zinc99"], "no reference 'zinc99'"),
        (["some.smi", "--reference", "missing.smi"], "missing.smi"),
        (["some.smi", "--num", "3"], "--num, --seed, --devices, --steps, --joint"),
        (["some.smi", "--seed", "3"], "--num, --seed, --devices, --steps, --joint"),
        (["some.smi", "--joint", "balanced"], "--num, --seed, --devices, --steps, --joint"),
        (["some.smi", "--steps", "4"], "--num, --seed, --devices, --steps, --joint"),
        (["some.smi", "--devices", "2"], "--num, --seed, --devices, --steps, --joint"),
        (["some.smi", "--temperature", "0.9"], "--num, --seed, --devices, --steps, --joint"),
        (["some.smi", "--min-p", "0.1"], "--min-p and --min-reveal are for models to"),
        (["empty.smi"], "no molecules"),
        (["zinc99"], "no model 'zinc99'"),
        (["qm9", "--seed", "1", "--seed", "1"], "the same seed twice"),
    ],
)
def test_evaluate_refuses(
    molfldd: Command, tmp_path: Path, arguments: list[str], words: str
) -> None:
    (tmp_path / "some.smi").write_text("CCO\n")
    (tmp_path / "empty.smi").write_text("")
    before = files(tmp_path)
    result = molfldd("evaluate", *arguments)
    assert result.code == 2
    assert words in result.error
    assert files(tmp_path) == before


def test_evaluate_binary_file(molfldd: Command, tmp_path: Path) -> None:
    (tmp_path / "image.smi").write_bytes(bytes(range(256)))
    result = molfldd("evaluate", tmp_path / "image.smi")
    assert result.code == 2
    assert "image.smi" in result.error

"""Scripts: bad input gets one sentence, a power law is found, a study takes what is there."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from tiny import build_diffusion, random_batch

from molfldd.cli.running import run_script

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture
def compute_curve(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("compute_curve")


def run(script: ModuleType, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int | str:
    """The exit code of a script."""
    monkeypatch.setattr(sys, "argv", ["script.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        run_script(script.main)
    return ended.value.code or 0


def reports(folder: Path) -> list[str]:
    """Three reports on the curve 0.066 + 0.5 / sqrt(hours)."""
    points = []
    for hours in (1.0, 4.0, 9.0):
        path = folder / f"{hours}.json"
        path.write_text(json.dumps({"mean": {"fcd": 0.066 + 0.5 * hours**-0.5}}))
        points.append(f"{hours}={path}")
    return points


def test_a_power_law_is_found_and_extrapolated(
    compute_curve: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(compute_curve, [*reports(tmp_path), "--goal", "0.116"], monkeypatch) == 0
    printed = capsys.readouterr().out
    assert "0.066 + 0.500 hours^-0.50" in printed
    assert "| 100 |  | 0.116 |" in printed


def test_the_bench_shares_out_the_time_of_sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    bench = importlib.import_module("bench_sampling")
    model = bench.random_model(2, bench.random_data(3, 10))
    network, drawing, writing = bench.sampling_costs(model, 4)
    assert min(network, drawing, writing) > 0


@pytest.fixture
def qm9_table(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("qm9_table")


def test_a_report_is_a_row_with_its_spread_and_seconds(
    qm9_table: ModuleType, tmp_path: Path
) -> None:
    path = tmp_path / "report.json"
    scores = {"mean": {"valid": 0.5, "fcd": 0.25}, "spread": {"valid": 0.01, "fcd": 0.125}}
    path.write_text(json.dumps({**scores, "seconds": [4.0, 6.0], "protocol": {"samples": 2000}}))
    row = qm9_table.report_row("some: model:10", path)
    assert row.cells()[:3] == ["some: model", "10", "50.00 ± 1.00"]
    assert row.cells()[-3:] == ["0.250 ± 0.125", "", "2.50"]


def test_the_picture_of_the_table_has_a_line_for_each_series(
    qm9_table: ModuleType, tmp_path: Path
) -> None:
    rows = [
        qm9_table.Row("b", "ours", "100", {"fcd": 0.2}, seconds=3.0),
        qm9_table.Row("a", "ours", "10", {"fcd": 0.4}, seconds=1.0),
        qm9_table.Row("c", "other", "10", {"fcd": 0.8}),
        qm9_table.Row("nothing valid", "other", "20", {"fcd": None}),
        qm9_table.Row("real", "", "", {"fcd": 0.1}),
    ]
    found = qm9_table.points(rows)
    assert {series: [row.name for row in mine] for series, mine in found.items()} == {
        "": ["real"],
        "ours": ["a", "b"],
        "other": ["c"],
    }
    qm9_table.picture(rows, tmp_path / "table.png")
    assert (tmp_path / "table.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("argument", ["a:10={0}/missing.json", "a={0}/x.json", "a:ten={0}/x.json"])
def test_the_table_reads_its_reports_before_anything_is_sampled(
    qm9_table: ModuleType,
    argument: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(qm9_table, ["--report", argument.format(tmp_path)], monkeypatch) == 2
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["1=missing.json", "2=missing.json"],
        ["missing.json"],
        ["one={0}"],
        ["1={0}"],
        ["0={0}", "1={0}"],
        ["1={0}", "2={0}", "--floor", "3"],
        ["1={0}", "2={0}", "--goal", "0.01"],
        ["1={0}", "2={0}", "--score", "beauty"],
        ["--nothing"],
        [],
    ],
)
def test_bad_input_gets_one_sentence(
    compute_curve: ModuleType,
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = reports(tmp_path)[0].partition("=")[2]
    assert run(compute_curve, [a.format(report) for a in arguments], monkeypatch) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("error: ")
    assert err.count("\n") == 1


@torch.no_grad()
def test_the_order_shown_is_that_of_the_first_number_of_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With m_t = t/T all elements together are masked for 1/2 of 2 steps before the last."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    module = importlib.import_module("learned_order")
    batch = random_batch(3, sizes=(2, 3))
    steps = module.generation_steps(build_diffusion("masking", (2, 4)).forward_process, batch)
    exists = torch.cat([batch.mask[name] for name in steps], -1)
    mean = (torch.cat(list(steps.values()), -1) * exists).sum(-1) / exists.sum(-1)
    assert mean.tolist() == pytest.approx([1.5] * 3, abs=1e-4)


@pytest.fixture
def ablations(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("ablations")


def test_a_study_takes_what_another_has_measured(
    ablations: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Seeds become mean and spread, and nothing is trained that is there."""
    variant = ablations.STUDIES["parts"]["learned masking"]
    given = {"budget": 6.0, "samples": 5000, "init": None, "steps": 2, "minutes": 6.0}
    found = {"learning": 1000, "polishing": 2000, "valid": 0.9, "unique": 0.99, "fcd": None}
    lines = [
        variant.key | given | found | {"seed": seed, "bound": 25.0 + seed, "kl": [1.0, 2.0 + seed]}
        for seed in (0, 1)
    ]
    (tmp_path / "results.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    only = [
        "--only",
        "control variate, K = 1, 4 steps of each of 16 examples",
        "--seeds",
        "2",
        "--minutes",
        "6",
    ]
    assert run(ablations, ["learning", "--out", str(tmp_path), *only], monkeypatch) == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| control")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:5] == [
        "control variate, K = 1, 4 steps of each of 16 examples",
        "2",
        "2",
        "25.50 ± 0.71",
        "90.0 ± 0.0",
    ]
    assert cells[6] == "-"
    assert cells[-1] == "1.0 2.5"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("even_pace 0.2", [4400, 3600]),
        ("even_pace 0.2, after a warm-up", [800, 3600, 3600]),
    ],
)
def test_iterations_are_shared_out_among_the_phases(
    ablations: ModuleType, name: str, expected: list[int], tmp_path: Path
) -> None:
    budget = ablations.Budget(minutes=12, iterations=8000, samples=2, init=None, path=None)
    assert ablations.lengths(ablations.STUDIES["pace"][name], budget, tmp_path) == expected


@pytest.mark.parametrize("arguments", [["beauty"], ["parts", "--only", "beauty"]])
def test_an_unknown_study_or_variant_names_the_known_ones(
    ablations: ModuleType,
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(ablations, [*arguments, "--out", str(tmp_path)], monkeypatch) == 2
    assert "beauty" in capsys.readouterr().err

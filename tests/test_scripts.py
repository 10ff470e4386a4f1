"""Scripts answer bad input as the program does, and the fit of a power law finds it."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

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

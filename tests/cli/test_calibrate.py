"""``molfldd calibrate``: a checkpoint in, one whose samples are more like the data out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import known_as_tiny, save_untrained, write_recipe
from program import Command, files
from torch import Tensor

from molfldd.calibration import Calibration
from molfldd.checkpoint import read_checkpoint, write_checkpoint
from molfldd.config import override, read_recipe
from molfldd.core.sampling import Samples
from molfldd.molecules.store import MoleculeDataset

FEW = ("--num", 600, "--rounds", 2)


def numbers(printed: str, name: str) -> list[float]:
    """The row of a statistic: training, before, after each round."""
    (row,) = [line for line in printed.splitlines() if line.strip().startswith(f"{name}  ")]
    return [float(value) for value in row.strip().removeprefix(name).split()]


def test_the_means_come_nearer_to_those_of_the_data(
    molfldd: Command, checkpoint: Path, tmp_path: Path
) -> None:
    """Of an untrained model, most of whose atoms are of the wrong kind and too much bonded."""
    out = tmp_path / "calibrated.safetensors"
    done = molfldd("calibrate", checkpoint, "--out", out, "--num", 4000, "--rounds", 3)
    assert done.code == 0, done.err
    wanted, before, *_, after = numbers(done.out, "valid")
    assert wanted == 1
    assert after > 2 * before
    wanted, before, *_, after = numbers(done.out, "C")
    assert abs(after - wanted) < abs(before - wanted) / 2
    assert f"written to {out}" in done.err
    scored = molfldd("evaluate", out, "--reference", "none", "--num", 500).out
    assert "valid" in scored


def test_only_the_last_layers_and_what_is_known_of_the_model_change(
    molfldd: Command, checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "calibrated.safetensors"
    molfldd("calibrate", checkpoint, "--out", out, *FEW, "--joint", "independent", "--min-p", 0.1)
    (header, tree), (new_header, new_tree) = read_checkpoint(checkpoint), read_checkpoint(out)
    changed = {
        name for name, w in tree["reverse"].items() if not torch.equal(w, new_tree["reverse"][name])
    }
    layers = [
        f"network.read_{block}.{part}" for block in ("atoms", "pairs", "ends") for part in WEIGHTS
    ]
    assert changed == set(layers)
    assert all(torch.equal(w, new_tree["forward"][name]) for name, w in tree["forward"].items())
    metrics, new_metrics = header.pop("metrics"), new_header.pop("metrics")
    assert new_header.pop("manner") == {"joint": "independent", "min_p": 0.1}
    assert header == new_header
    assert new_metrics.pop("calibrated") == {
        "rounds": 2,
        "num": 600,
        "seed": 1000,
        "batch_size": 500,
        "joint": "independent",
        "temperature": 1.0,
        "min_p": 0.1,
        "min_reveal": 0.0,
        "steps": 3,
    }
    assert new_metrics.keys() >= metrics.keys()
    assert new_metrics["bound"] > 0


WEIGHTS = ("weight", "bias")


def test_a_model_draws_in_the_manner_it_was_calibrated_for_unless_told_otherwise(
    molfldd: Command, checkpoint: Path, tmp_path: Path
) -> None:
    out, report = tmp_path / "calibrated.safetensors", tmp_path / "report.json"
    manner = ("--joint", "independent", "--min-p", 0.2, "--temperature", 0.8)
    assert molfldd("calibrate", checkpoint, "--out", out, *FEW, *manner).code == 0

    def drawn(*arguments: object) -> tuple[object, ...]:
        options = ("--reference", "none", "--num", 5, "--out", report, *arguments)
        assert molfldd("evaluate", out, *options).code == 0
        found = json.loads(report.read_text())
        return found["joint"], found["temperature"], found["min_p"]

    assert drawn() == ("independent", 0.8, 0.2)
    assert drawn("--min-p", 0, "--joint", "balanced") == ("balanced", 0.8, 0.0)
    assert molfldd("calibrate", out, "--out", out, *FEW, "--min-p", 0.3).code == 0
    assert drawn("--devices", 2) == ("independent", 0.8, 0.3)


def test_the_same_seed_gives_the_same_model(
    molfldd: Command, checkpoint: Path, tmp_path: Path
) -> None:
    paths = [tmp_path / f"{i}.safetensors" for i in range(3)]
    for path, seed in zip(paths, (7, 7, 8), strict=True):
        molfldd("calibrate", checkpoint, "--out", path, "--num", 100, "--rounds", 1, "--seed", seed)
    first, again, other = (read_checkpoint(path)[1]["reverse"] for path in paths)
    assert all(torch.equal(w, again[name]) for name, w in first.items())
    assert any(not torch.equal(w, other[name]) for name, w in first.items())


def test_for_other_steps_the_other_walk_is_drawn(
    molfldd: Command, tiny: MoleculeDataset, tmp_path: Path
) -> None:
    with known_as_tiny(tiny):
        several = override(read_recipe(str(write_recipe(tmp_path))), ["process.steps=[3, 2]"])
        path = save_untrained(several, tmp_path)
    out = tmp_path / "calibrated.safetensors"
    assert molfldd("calibrate", path, "--out", out, *FEW, "--steps", 2).code == 0
    assert read_checkpoint(out)[0]["metrics"]["calibrated"]["steps"] == 2
    refused = molfldd("calibrate", path, "--out", out, "--steps", 5)
    assert (refused.code, "not trained for 5 steps" in refused.error) == (2, True)


def test_what_cannot_be_done_is_said_and_nothing_is_written(
    molfldd: Command, checkpoint: Path, toy_checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "calibrated.safetensors"
    other = tmp_path / "other.safetensors"
    header, tree = read_checkpoint(checkpoint)
    write_checkpoint(other, {**header, "fingerprint": "0"}, tree)
    before = files(tmp_path)
    for arguments, code, message in (
        ((toy_checkpoint, "--out", out), 2, "the domain 'mixture' has no statistics"),
        ((checkpoint, "--out", tmp_path / "model.pt"), 2, "the suffix '.pt' is none of"),
        ((checkpoint, "--out", tmp_path / "a" / "b.safetensors"), 2, "there is no directory"),
        ((tmp_path / "none.safetensors", "--out", out), 1, "there is no checkpoint"),
        ((other, "--out", out), 1, "was trained on other data"),
    ):
        result = molfldd("calibrate", *arguments)
        assert (result.code, result.out) == (code, "")
        assert message in result.error
    assert files(tmp_path) == before


def test_where_no_sample_is_valid_nothing_is_compared(
    molfldd: Command, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn(calibration: Calibration, samples: Samples) -> Tensor:
        return calibration.comparison([None] * len(samples.sizes))

    monkeypatch.setattr(Calibration, "_drawn", drawn)
    out = tmp_path / "calibrated.safetensors"
    result = molfldd("calibrate", checkpoint, "--out", out, "--num", 100)
    assert (result.code, out.exists()) == (1, False)
    assert "none of 100 samples" in result.error


def test_last_layers_that_are_too_large_are_refused(
    molfldd: Command, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("molfldd.core.calibration.LARGEST", 10)
    result = molfldd("calibrate", checkpoint, "--out", tmp_path / "calibrated.safetensors")
    assert result.code == 2
    assert "no more than 10 can be calibrated" in result.error


def test_it_needs_the_device_that_is_named(
    molfldd: Command, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = molfldd(
        "calibrate", checkpoint, "--out", tmp_path / "a.safetensors", "--device", "cuda"
    )
    assert result.code == 2
    assert "--device cpu" in result.error

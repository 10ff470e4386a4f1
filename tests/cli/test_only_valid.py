"""``molfldd sample --only-valid``: the first valid ones of the same stream."""

import re
from pathlib import Path

import pytest
from program import Command

from molfldd.cli import sample


def test_the_first_valid_ones_of_the_stream(molfldd: Command, checkpoint: Path) -> None:
    common = ("sample", "--checkpoint", checkpoint, "--device", "cpu")
    everything = molfldd(*common, "--num", 300).out.splitlines()
    assert len(everything) > 3
    for num, batch_size in ((1, 300), (3, 300), (3, 17)):
        options = ("--num", num, "--batch-size", batch_size, "--only-valid")
        result = molfldd(*common, *options)
        assert result.code == 0
        assert result.out.splitlines() == everything[:num]


def test_the_rate_is_that_of_what_had_to_be_drawn(
    molfldd: Command, checkpoint: Path, tmp_path: Path
) -> None:
    common = ("sample", "--checkpoint", checkpoint, "--device", "cpu", "--batch-size", 50)
    table, kept = tmp_path / "all.csv", tmp_path / "valid.csv"
    molfldd(*common, "--num", 300, "--out", table)
    valid = [row.endswith(",1") for row in table.read_text().splitlines()[1:]]
    drawn = [place for place, is_valid in enumerate(valid, 1) if is_valid][2]
    said = molfldd(*common, "--num", 3, "--only-valid", "--out", kept).err
    assert f"3 valid of {drawn:,} drawn ({300 / drawn:.1f} %) in " in said
    assert re.search(rf"written to {kept}$", said.strip())
    assert all(row.endswith(",1") for row in kept.read_text().splitlines()[1:])
    assert len(kept.read_text().splitlines()) == 4


@pytest.mark.parametrize("to_file", [True, False])
def test_it_gives_up_when_valid_ones_are_too_rare(
    molfldd: Command,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    to_file: bool,
) -> None:
    monkeypatch.setattr(sample, "PATIENCE", 60)
    monkeypatch.setattr(sample, "LEAST_USABLE", 0.5)
    out = ["--out", tmp_path / "out.smi"] if to_file else []
    result = molfldd("sample", "--checkpoint", checkpoint, "--num", 50, "--only-valid", *out)
    assert result.code == 1
    assert re.search(r"only \d+ of 60 drawn are valid; leave out --only-valid", result.error)
    assert list(tmp_path.iterdir()) == []


def test_a_domain_that_judges_nothing(
    molfldd: Command, toy_checkpoint: Path, tmp_path: Path
) -> None:
    result = molfldd("sample", "--checkpoint", toy_checkpoint, "--num", 3, "--only-valid")
    assert result.code == 2
    assert "domain 'mixture' does not judge them; leave out --only-valid" in result.error
    assert result.out == ""

"""``molfldd train --init``: what a training can begin with, and what it cannot."""

from pathlib import Path

import pytest
import torch
from program import CPU, Command, files

from molfldd.checkpoint import read_checkpoint, write_checkpoint
from molfldd.run import MODEL


@pytest.mark.parametrize(
    ("changed", "parts", "anew"),
    [
        ("process.steps=3", ("reverse", "forward"), set()),
        ("process.even_pace=0.9", ("reverse", "forward"), set()),
        ("process.steps=4", ("reverse", "forward"), {"pace_logits"}),
        ("process.steps=[3,4]", ("reverse", "forward"), {"pace_logits"}),
        ("process.steps=[1,2]", ("reverse", "forward"), {"pace_logits"}),
        ("process.components=3", ("reverse", "forward"), set()),
        ("network.layers=2", ("reverse", "forward"), set()),
        ("network.triangles=3", ("reverse", "forward"), set()),
        ("process.forward=fixed", ("reverse",), set()),
        ("process.reverse=jump", ("reverse", "forward"), set()),
        ("process.reverse=direct process.forward=mixed", ("reverse",), set()),
        ("process.prior=uniform process.forward=fixed process.reverse=jump", ("reverse",), set()),
    ],
)
def test_training_begins_with_the_networks_of_a_checkpoint(
    molfldd: Command,
    recipe: Path,
    checkpoint: Path,
    tmp_path: Path,
    changed: str,
    parts: tuple[str, ...],
    anew: set[str],
) -> None:
    """Of the forward process too, if it is of the same kind, without what belongs to each step."""
    rates = ("0.lr_forward", "0.lr_reverse", "1.lr_reverse")
    still = [f"--set=phases.{rate}=1e-12" for rate in rates]
    short = [f"--set=phases.{i}.iterations=1" for i in (0, 1)]
    header, given = read_checkpoint(checkpoint)
    given["forward"]["pace_logits"] += torch.tensor([0.1, 0.2, 0.3])
    write_checkpoint(tmp_path / MODEL, header, given)
    out = tmp_path / "new"
    more = (*(f"--set={change}" for change in changed.split()), *still, *short, *CPU)
    result = molfldd("train", recipe, "--init", tmp_path / MODEL, "--out", out, *more)
    assert result.code == 0, result.err
    assert f"beginning with {'both processes' if len(parts) == 2 else 'the reverse'}" in result.err
    _, begun = read_checkpoint(out / MODEL)
    for part in parts:
        for name, value in given[part].items():
            if name in anew:
                assert begun[part][name].abs().max() < 1e-6
            else:
                found = begun[part][name].clone()
                pairs = zip(found.shape, value.shape, strict=True)
                same = tuple(slice(min(mine, its)) for mine, its in pairs)
                torch.testing.assert_close(found[same], value[same], rtol=1e-2, atol=1e-4)
                found[same] = 0.0
                assert (found.abs() < 1e-6).all()


def test_marginals_of_each_step_are_not_those_of_other_steps(
    molfldd: Command, recipe: Path, tmp_path: Path
) -> None:
    kind = ("prior=uniform", "forward=pinned", "reverse=direct")
    short = [f"--set=phases.{i}.iterations=1" for i in (0, 1)]
    options = [*(f"--set=process.{change}" for change in kind), *short, *CPU]
    assert molfldd("train", recipe, "--out", tmp_path / "old", *options).code == 0
    for steps, begun in ((3, "both processes"), (4, "the reverse process")):
        given = ("--init", tmp_path / "old" / MODEL, "--set", f"process.steps={steps}")
        result = molfldd("train", recipe, "--out", tmp_path / str(steps), *given, *options)
        assert f"beginning with {begun} of" in result.err


@pytest.mark.parametrize("changed", ["width=32", "heads=4"])
def test_training_cannot_begin_with_another_network(
    molfldd: Command, recipe: Path, checkpoint: Path, tmp_path: Path, changed: str
) -> None:
    sets = (f"--set=network.{changed}", "--init", checkpoint)
    result = molfldd("train", recipe, *sets, "--out", tmp_path / "new", *CPU)
    assert result.code == 1
    assert f"--set network.{changed.split('=')[0]}=" in result.error
    assert files(tmp_path) == {recipe}


def test_training_cannot_begin_with_another_kind_of_data(
    molfldd: Command, recipe: Path, toy_checkpoint: Path, tmp_path: Path
) -> None:
    result = molfldd("train", recipe, "--init", toy_checkpoint, "--out", tmp_path / "new", *CPU)
    assert result.code == 1
    assert "other categories" in result.error
    assert files(tmp_path) == {recipe}


@pytest.mark.parametrize(
    ("forward", "parts"), [("masking", "both processes"), ("mixed", "the reverse process")]
)
def test_training_begins_with_what_was_learned_from_other_molecules(
    molfldd: Command, recipe: Path, checkpoint: Path, tmp_path: Path, forward: str, parts: str
) -> None:
    """Larger ones with more kinds of atoms; the recipe is that of the model it begins with."""
    own = tmp_path / "own.smi"
    own.write_text(
        "".join(f"{'C' * n}S(=O)(=O){'N' * m}Cl\n" for n in range(1, 20) for m in (1, 2, 3))
    )
    more = [f"--set=phases.{i}.iterations=1" for i in (0, 1)]
    kinds = [f"--set=process.{kind}" for kind in (f"forward={forward}", "reverse=direct")]
    first = tmp_path / "first"
    assert not molfldd("train", recipe, "--out", first, *more, *kinds, *CPU).code
    data = ("--data", own, "--set=data.name=file", "--init", first / MODEL)
    result = molfldd("train", recipe, *data, "--out", tmp_path / "new", *more, *kinds, *CPU)
    assert result.code == 0, result.err
    assert f"beginning with {parts}" in result.err
    assert molfldd("sample", "--checkpoint", tmp_path / "new" / MODEL, "--num", "2").code == 0


def test_the_recipe_for_few_molecules_goes_on_with_the_embedded_model(
    molfldd: Command, tmp_path: Path
) -> None:
    """The command of the README, with one iteration of each phase."""
    own = tmp_path / "my.smi"
    own.write_text(
        "".join(f"{'C' * n}[N+](C)(C){'C' * m}Cl\n" for n in range(1, 9) for m in (1, 9))
    )
    short = ("phases.0.iterations=1", "phases.1.iterations=1", "monitor.samples=2")
    sets = [f"--set={change}" for change in short]
    begin = ("--data", own, "--init", "moses", "--out", tmp_path / "new")
    result = molfldd("train", "fine-tune", *begin, *sets, *CPU)
    assert result.code == 0, result.err
    assert "beginning with both processes of moses" in result.err


def test_resumed_training_has_networks_of_its_own(
    molfldd: Command, recipe: Path, checkpoint: Path
) -> None:
    out = checkpoint.parent
    result = molfldd("train", recipe, "--resume", "--init", checkpoint, "--out", out)
    assert result.code == 2
    assert "leave out --init" in result.error

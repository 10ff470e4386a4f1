"""Stories through the commands: train, sample, evaluate, and what is answered to mistakes."""

import json
from pathlib import Path

import pytest
from program import CPU, same_weights, stopping_after

from molfldd.cli.train import INTERRUPTED
from molfldd.errors import MolflddError
from molfldd.model import load_model
from molfldd.run import MODEL

SMALL = [
    "data.vocabulary=280",
    "data.max_length=30",
    "network.layers=1",
    "network.width=16",
    "network.heads=2",
    "process.steps=3",
    "training.batch_size=8",
    "monitor.examples=8",
    "monitor.samples=8",
    "monitor.log_every=2",
    "phases.0.iterations=4",
    "phases.1.iterations=2",
]


def settings(*assignments: str) -> list[str]:
    return [word for assignment in assignments for word in ("--set", assignment)]


@pytest.fixture
def trained(molfldd, stories_file: Path, tmp_path: Path) -> Path:
    """A model after six iterations."""
    code, out, err = molfldd(
        *("train", "rocstories", "--out", tmp_path / "run"),
        *("--accelerator", "cpu", "--precision", "32-true"),
        *settings(f"data.path={stories_file}", *SMALL),
    )
    assert code == 0, err
    assert "144 read, 144 kept, 0 skipped" in err
    assert str(tmp_path / "run" / MODEL) in out
    return tmp_path / "run" / MODEL


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def test_train_sample_evaluate(molfldd, trained: Path, stories_file: Path, tmp_path: Path) -> None:
    last = json.loads(lines(trained.parent / "log.jsonl")[-1])
    assert {"div", "words", "known", "bound"} <= set(last)
    stories = tmp_path / "stories.txt"
    code, out, err = molfldd("sample", "--checkpoint", trained, "--num", 20, "--out", stories)
    assert (code, out) == (0, "")
    assert "20 texts generated" in err
    assert str(stories) in err
    assert len(lines(stories)) == 20
    code, out, _ = molfldd("sample", "--checkpoint", trained, "--num", 20)
    assert (code, out.split("\n")[:-1]) == (0, lines(stories))

    report = tmp_path / "report.json"
    code, out, _ = molfldd(
        *("evaluate", trained, "--num", 20, "--seed", 0, "--seed", 1, "--out", report)
    )
    assert code == 0
    assert "MOLFLDD_JUDGE names no model" in " ".join(out.split())
    written = json.loads(report.read_text())
    assert 0 < written["mean"]["div"] <= 1
    assert 0 <= written["mean"]["mem"] <= 1
    assert written["mean"]["bound"] > written["mean"]["bound_token"] > 0
    assert written["spread"]["words"] > 0
    assert written["protocol"]["samples"] == 20

    code, _, _ = molfldd(*("evaluate", stories, "--reference", stories_file, "--out", report))
    assert code == 0
    again = json.loads(report.read_text())
    assert again["protocol"]["reference"] == 144
    assert again["mean"]["mem"] is None
    code, _, _ = molfldd("evaluate", trained, "--num", 20, "--reference", "none", "--out", report)
    assert code == 0
    assert json.loads(report.read_text())["mean"]["div"] == again["mean"]["div"]


def test_resumed_training_equals_uninterrupted(
    molfldd, trained: Path, stories_file: Path, tmp_path: Path
) -> None:
    given = ("--data", stories_file, *settings(*SMALL))
    with stopping_after(3):
        code, _, _ = molfldd("train", "rocstories", "--out", tmp_path / "parts", *given, *CPU)
    assert code == INTERRUPTED
    assert not same_weights(trained.parent, tmp_path / "parts")
    code, _, err = molfldd("train", "rocstories", "--out", tmp_path / "parts", "--resume", *CPU)
    assert code == 0, err
    assert same_weights(trained.parent, tmp_path / "parts")


def test_samples_are_determined_by_the_seed(trained: Path) -> None:
    model = load_model(trained)
    expected = model.sample(12, seed=3)
    assert model.sample(12, seed=3, batch_size=5) == expected
    assert model.sample(7, seed=3, batch_size=1) == expected[:7]
    assert model.sample(12, seed=4) != expected


def test_a_file_of_texts_is_recipe_enough(molfldd, stories_file: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    code, _, err = molfldd("train", stories_file, "--out", run, *settings(*SMALL))
    assert code == 0, err
    assert "144 read, 144 kept, 0 skipped" in err
    assert (run / MODEL).is_file()


def test_fixed_process_trains(molfldd, stories_file: Path, tmp_path: Path) -> None:
    code, _, err = molfldd(
        *("train", "rocstories-fixed", "--out", tmp_path / "run", "--accelerator", "cpu"),
        *settings(f"data.path={stories_file}", *SMALL),
    )
    assert code == 0, err


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        ([], "on request only (https://www.cs.rochester.edu/nlp/rocstories/)"),
        (["data.path=nowhere.txt"], "there is no file nowhere.txt"),
        (["data.max_length=0"], "max_length must be at least 1"),
        (["network.heads=5"], "width 512 is not divisible by 2 * heads 10"),
        (["data.tokenizer=nowhere.json", "data.path={}"], "cannot read the tokenizer"),
    ],
)
def test_mistakes_in_training(
    molfldd, stories_file: Path, tmp_path: Path, assignments: list[str], message: str
) -> None:
    given = [assignment.format(stories_file) for assignment in assignments]
    code, _, err = molfldd("train", "rocstories", "--out", tmp_path / "run", *settings(*given))
    assert code == 2
    assert message in err
    assert not (tmp_path / "run").exists()


def test_nothing_short_enough(molfldd, stories_file: Path, tmp_path: Path) -> None:
    given = settings(f"data.path={stories_file}", "data.vocabulary=256", "data.max_length=3")
    code, _, err = molfldd("train", "rocstories", "--out", tmp_path / "run", *given)
    assert code == 1
    assert "raise data.max_length" in err


@pytest.mark.parametrize(
    ("content", "reference", "message"),
    [
        ("A b.\n", "nowhere.txt", "cannot read nowhere.txt"),
        ("\n\n", "none", "there are no texts to evaluate"),
        ("", "none", "there are no texts to evaluate"),
    ],
)
def test_mistakes_in_evaluation(
    molfldd, tmp_path: Path, content: str, reference: str, message: str
) -> None:
    path = tmp_path / "stories.txt"
    path.write_text(content)
    code, _, err = molfldd("evaluate", path, "--domain", "text", "--reference", reference)
    assert code == 2
    assert message in err


def test_damaged_tokenizer_in_a_checkpoint(trained: Path) -> None:
    from molfldd.checkpoint import read_checkpoint, write_checkpoint

    header, tree = read_checkpoint(trained)
    header["domain"]["tokenizer"] = "{}"
    write_checkpoint(trained, header, tree)
    with pytest.raises(MolflddError, match="is not the JSON of a tokenizer"):
        load_model(trained)

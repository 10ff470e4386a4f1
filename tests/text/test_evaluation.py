"""Scores with their protocol, and judges that are made on the spot."""

import io
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from molfldd.errors import MolflddError, UsageError
from molfldd.report import Comparison
from molfldd.text.evaluation import Bound, Judges, comparison_with, evaluate
from molfldd.text.judges import Encoder, Judge, mauve
from molfldd.text.tokenizer import train_tokenizer

NONE = Comparison(None, None)


def test_scores_on_known_answers(stories: list[str]) -> None:
    report = evaluate([stories[:50]], Comparison(stories, stories), Judges(), Bound(60.0, 12.0))
    scores = report.mean
    assert scores["mem"] == 1
    assert scores["bound_token"] == 5
    assert scores["mauve"] is None
    assert scores["ppl"] is None
    assert report.protocol.samples == 50
    assert report.protocol.training == 144
    json.dumps(report.to_json())


def test_several_runs_are_averaged() -> None:
    report = evaluate([["a b c d"], ["a a a a a"]], NONE, Judges())
    assert report.mean["words"] == 4.5
    assert report.spread["words"] == pytest.approx(math.sqrt(0.5))
    assert report.mean["mem"] is None
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(report.table())
    shown = console.export_text()
    assert "2 runs: mean and standard deviation" in shown
    assert "MOLFLDD_ENCODER names no model" in shown


def test_no_texts() -> None:
    with pytest.raises(UsageError, match="no texts to evaluate"):
        evaluate([["", ""]], NONE, Judges())


def test_empty_reference(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n")
    with pytest.raises(UsageError, match="no text in the reference"):
        comparison_with(str(tmp_path / "a.txt"))


def test_missing_packages_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = __import__("sys").modules
    monkeypatch.setitem(modules, "transformers", None)
    monkeypatch.setitem(modules, "mauve", None)
    for needs in (lambda: Judge.load("x"), lambda: mauve(np.eye(2), np.eye(2))):
        with pytest.raises(MolflddError, match=r'pip install "molfldd\[text-metrics\]"'):
            needs()


@pytest.fixture(scope="module")
def folder(stories: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny GPT-2 with equal logits for every token, saved as transformers does."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("judge")
    tokenizer = train_tokenizer(stories, 300)
    tokenizer.add_special_tokens(["<s>"])
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>"
    ).save_pretrained(folder)
    config = transformers.GPT2Config(
        vocab_size=301, n_positions=256, n_embd=8, n_layer=1, n_head=2, tie_word_embeddings=False
    )
    model = transformers.GPT2LMHeadModel(config)
    model.lm_head.weight.data.zero_()
    model.save_pretrained(folder)
    return folder


def test_perplexity_of_an_indifferent_judge_is_its_vocabulary(
    folder: Path, stories: list[str]
) -> None:
    judge = Judge.load(str(folder))
    texts = ["A", *stories[:20], "x y " * 400]
    assert judge.perplexities(texts) == pytest.approx([301] * 22, rel=1e-4)


@pytest.mark.parametrize("mean", [False, True])
def test_features_do_not_depend_on_the_company(
    folder: Path, stories: list[str], mean: bool
) -> None:
    (folder / "modules.json").unlink(missing_ok=True)
    if mean:
        (folder / "modules.json").write_text("[]")
    encoder = Encoder.load(str(folder))
    together = encoder.features([stories[0], "A", stories[1]])
    assert together.shape == (3, 8)
    np.testing.assert_allclose(together[1:2], encoder.features(["A"]), atol=1e-5)
    assert np.abs(together[0] - together[2]).max() > 1e-4


def test_the_order_of_the_reference_does_not_matter(
    folder: Path, stories: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(Encoder, "features", lambda self, texts: seen.append(texts) or np.eye(3))
    monkeypatch.setattr("molfldd.text.evaluation.mauve", lambda generated, reference: 1.0)
    judges = Judges(encoder=Encoder("none", None, None))
    for order in (stories, stories[::-1], sorted(stories)):
        evaluate([stories[:9]], Comparison(order, None), judges)
    references = seen[::2]
    assert references[0] == references[1] == references[2]
    assert len(references[0]) == 9
    assert references[0] != sorted(stories)[:9]


def test_a_judge_with_few_positions_or_without_a_first_token(
    folder: Path, stories: list[str]
) -> None:
    judge = Judge.load(str(folder))
    judge.model.config.n_positions = 12  # which transformers calls max_position_embeddings too
    assert judge.model.config.max_position_embeddings == 12
    longest = max(len(exists[0]) for _, exists in judge._batches(stories[:20], [0]))
    assert longest == 12
    judge.tokenizer.bos_token = judge.tokenizer.eos_token = None
    with pytest.raises(MolflddError, match="no token to begin a text with"):
        judge.perplexities(stories[:2])


def test_report_names_the_judges(
    folder: Path, stories: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mauve")
    monkeypatch.setenv("MOLFLDD_JUDGE", str(folder))
    monkeypatch.setenv("MOLFLDD_ENCODER", str(folder))
    report = evaluate([[*stories[:30], ""]], Comparison(stories[:60], None), Judges.chosen())
    scores = report.mean
    assert scores["ppl"] == pytest.approx(301, rel=1e-4)
    assert scores["mauve"] is not None
    assert 0 < scores["mauve"] <= 1
    assert report.protocol.judge == report.protocol.encoder == str(folder)
    assert any("31 of 60 reference texts" in line for line in report.protocol.lines())


def test_judge_that_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(MolflddError, match="cannot load the language model"):
        Judge.load(str(tmp_path))


def test_damaged_weights_of_a_judge(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "judge")
    weights = tmp_path / "judge" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(MolflddError, match="cannot load the language model"):
        Judge.load(str(tmp_path / "judge"))


def test_mauve_of_equal_and_of_disjoint_features() -> None:
    pytest.importorskip("mauve")
    rng = np.random.default_rng(0)
    a = rng.normal(size=(80, 5)).astype(np.float32)
    assert mauve(a, a) == pytest.approx(1, abs=0.01)
    assert mauve(a, a + np.float32(100)) < 0.1

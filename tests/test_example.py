"""The domain of the documentation, from end to end, as its page says."""

import json
import random
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
MOTIF = "GATTACA"


def run(*arguments: str, cwd: Path, script: str = "dna.py") -> str:
    command = [sys.executable, str(EXAMPLES / script), *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_new_domain_takes_sixty_lines() -> None:
    lines = (EXAMPLES / "dna.py").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) <= 60


def test_it_trains_and_samples_what_it_was_shown(tmp_path: Path) -> None:
    """Repeats of one motif, of several lengths: most neighbouring pairs must be right."""
    chooser = random.Random(0)
    genes = [(MOTIF * 6)[:n] for n in chooser.choices(range(7, 29), k=600)]
    (tmp_path / "genes.txt").write_text("\n".join(genes))
    short = ["--set", "phases.0.iterations=150", "--set", "phases.1.iterations=200"]
    quick = [
        "--set",
        "training.ema_decay=0.97",
        "--set",
        "monitor.samples=20",
        "--accelerator",
        "cpu",
    ]
    run("train", str(EXAMPLES / "dna.yaml"), "--out", "run", *short, *quick, cwd=tmp_path)
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert "gc" in next(entry for entry in log if entry["event"] == "evaluate")
    arguments = ["--checkpoint", "run/model.safetensors", "--num", "50", "--devices", "2"]
    sampled = run("sample", *arguments, cwd=tmp_path).split()
    assert len(sampled) == 50
    assert {len(gene) for gene in sampled} <= set(range(7, 29))
    assert share_of_right_pairs(sampled) > 0.8


def share_of_right_pairs(genes: list[str]) -> float:
    pairs = {(MOTIF * 2)[i : i + 2] for i in range(7)}
    found = [gene[i : i + 2] in pairs for gene in genes for i in range(len(gene) - 1)]
    return sum(found) / len(found)


def test_it_has_nothing_for_muon(tmp_path: Path) -> None:
    (tmp_path / "genes.txt").write_text("GATTACA\n" * 20)
    arguments = ["train", str(EXAMPLES / "dna.yaml"), "--set", "training.optimizer=muon"]
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "dna.py"), *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "take 'adamw'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_loop_of_ones_own_learns_the_same(tmp_path: Path) -> None:
    bound, *sampled = run(cwd=tmp_path, script="loop.py").splitlines()
    assert float(bound.split()[1]) < 12  # log 7 + log 22 = 5.0 at best, 28 at first
    assert len(sampled) == 20
    assert share_of_right_pairs(sampled) > 0.8

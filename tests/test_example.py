"""The domain of the documentation, from end to end, as its page says."""

import json
import random
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
MOTIF = "GATTACA"


def run(*arguments: str, cwd: Path) -> str:
    command = [sys.executable, str(EXAMPLES / "dna.py"), *arguments]
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
    pairs = {(MOTIF * 2)[i : i + 2] for i in range(7)}
    found = [gene[i : i + 2] in pairs for gene in sampled for i in range(len(gene) - 1)]
    assert sum(found) > 0.8 * len(found)

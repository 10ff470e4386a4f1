"""What the tests of the commands share."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Command = Callable[..., Any]

PROGRAM = [sys.executable, "-c", "from molfldd.cli.main import run; run()"]
CPU = ("--accelerator", "cpu", "--precision", "32-true")


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}

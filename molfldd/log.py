"""The log of a run: one JSON object per line, of the events train, evaluate and warning."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from molfldd.errors import MolflddError
from molfldd.storage import atomic_path

LOG = "log.jsonl"
"""Its name in the folder of a run."""


class RunLog:
    """The log that a training writes.

    Args:
        path: The file; made by the first entry.
        writes: Whether this process does, which one of those that train together has to.
    """

    def __init__(self, path: Path, writes: bool = True) -> None:
        self.path, self.writes = path, writes

    def add(self, event: str, iteration: int, **content: Any) -> None:
        """Append one line."""
        if self.writes:
            entry = {"event": event, "iteration": iteration, **content}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")

    def cut(self, iteration: int) -> None:
        """Drop what was logged after an iteration, and a line that was not finished."""
        if self.writes and self.path.is_file():
            lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if _iteration(line) <= iteration]
            with atomic_path(self.path) as partial:
                partial.write_text("".join(kept), encoding="utf-8")


def read_log(path: Path) -> list[dict[str, Any]]:
    """The entries of a run's log.

    Raises:
        MolflddError: if the file cannot be read or is no log with at least one evaluation.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]
        entries: list[dict[str, Any]] = [json.loads(line) for line in whole]
        evaluated = any(entry["event"] == "evaluate" for entry in entries)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise MolflddError(f"cannot read the log {path}: {reason}") from error
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise MolflddError(f"{path} is not the log of a run") from error
    if not evaluated:
        raise MolflddError(f"{path} holds no evaluation yet; let the run go on and try again")
    return entries


def rounded(values: Mapping[str, float]) -> dict[str, float]:
    """For an entry."""
    return {name: round(value, 4) for name, value in values.items()}


def _iteration(line: str) -> float:
    """Of a line of the log; infinite for one that was cut or damaged, as by a full disk."""
    try:
        return float(json.loads(line)["iteration"]) if line.endswith("\n") else math.inf
    except (ValueError, KeyError, TypeError):
        return math.inf

"""Progress bars on standard error, where that is a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track

T = TypeVar("T")


def shown(
    items: Iterable[T], title: str, total: int | None = None, *, quiet: bool = False
) -> Iterator[T]:
    """The items as they come, with a bar that is gone when they are.

    Args:
        items: What to go through.
        title: What the bar says.
        total: How many there are, if they cannot say it themselves.
        quiet: No bar.
    """
    console = Console(stderr=True)
    hidden = quiet or not console.is_terminal
    yield from track(
        items, description=title, total=total, console=console, transient=True, disable=hidden
    )

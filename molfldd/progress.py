"""Progress bars on standard error, where that is a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from rich.console import Console
from rich.progress import DownloadColumn, Progress, TransferSpeedColumn, track

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


@contextmanager
def arriving(title: str, total: int | None, done: int) -> Iterator[Callable[[float], None]]:
    """A bar of bytes that come in, and how to say that so many more have.

    Args:
        title: What the bar says.
        total: How many there will be, if that is known.
        done: How many there are.
    """
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns()[:2], DownloadColumn(), TransferSpeedColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        yield partial(progress.advance, progress.add_task(title, total=total, completed=done))

"""Work divided over processes of this machine: results in order, in constant memory."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.queues import SimpleQueue
from threading import Thread, current_thread, main_thread
from types import FrameType, TracebackType
from typing import Self, TypeVar

from molfldd.errors import MolflddError

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 2
"""Items that wait for each process."""

_number = 0


def processors() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def process_number() -> int:
    """Which of the ``Processes`` this one is, from 0."""
    return _number


class Processes:
    """Processes that work until the block ends; Ctrl-C is left to the one that started them.

    They end at once with the block, or with the process that started them, whatever they are at.

    Args:
        count: How many there are at most; each starts when there is work for it.
    """

    def __init__(self, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        numbers: SimpleQueue[int] = context.SimpleQueue()
        for number in range(count):
            numbers.put(number)
        self._count = count
        self._theirs, self._lifeline = context.Pipe(duplex=False)
        self._pool = ProcessPoolExecutor(count, context, _begin, (self._theirs, numbers))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lifeline.close()
        self._pool.shutdown(cancel_futures=True)
        self._theirs.close()

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """What the function makes of each item, in order; only a few items are taken ahead.

        The function, items and results are pickled. What the function raises is raised here.

        Raises:
            MolflddError: if one of the processes is ended from outside.
        """
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(self._submit(function, item))
                if len(waiting) > _AHEAD * self._count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise MolflddError(
                "a process that works for this one was ended, perhaps for want of memory; use "
                "fewer processes or smaller batches, and in a script of your own, guard the start "
                "with: if __name__ == '__main__'"
            ) from error

    def _submit(self, function: Callable[[Item], Result], item: Item) -> Future[Result]:
        with _interrupts_held():
            return self._pool.submit(function, item)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C waits until the block ends; processes that start in the block never see it.

    Blocking the signal is for the processes, which inherit that. This one may get it through
    another of its threads all the same, so that its handler has to wait too.
    """
    if not hasattr(signal, "pthread_sigmask") or current_thread() is not main_thread():
        yield
        return
    heard: list[tuple[int, FrameType | None]] = []
    handler = signal.signal(signal.SIGINT, lambda *arguments: heard.append(arguments))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGINT, handler)
        if heard and callable(handler):
            handler(*heard[0])


def _begin(lifeline: Connection, numbers: SimpleQueue[int]) -> None:
    """What each process does first."""
    global _number
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    _number = numbers.get()


def _end_with(lifeline: Connection) -> None:
    """Wait until the other end is closed, if only because its process ended, and end this one."""
    with suppress(EOFError, OSError):
        lifeline.recv_bytes()
    os._exit(1)

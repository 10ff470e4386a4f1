"""Processes work in order, few items ahead, and never outlive who started them."""

import itertools
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from molfldd.errors import MolflddError
from molfldd.processes import Processes, process_number, processors

PID = "__import__('os').getpid()"
NUMBER = "__import__('time').sleep(1) or __import__('molfldd.processes').processes._number"
DEATH = f"__import__('os').kill({PID}, 9)"
LONG = "__import__('time').sleep(100)"


def gone(pid: int) -> bool:
    """Whether the process has ended within a while."""
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_results_come_in_order_and_errors_where_they_belong() -> None:
    with Processes(2) as processes:
        slow = ["__import__('time').sleep(0.3) or 0", "1", "2", "3", "1 / 0", "5"]
        results = processes.map(eval, slow)
        assert list(itertools.islice(results, 4)) == [0, 1, 2, 3]
        with pytest.raises(ZeroDivisionError):
            next(results)
        assert list(processes.map(abs, range(-9, 0))) == list(range(9, 0, -1))


def test_every_process_has_a_number() -> None:
    with Processes(2) as processes:
        assert set(processes.map(eval, [NUMBER] * 4)) == {0, 1}
    assert process_number() == 0


def test_only_a_few_items_are_taken_ahead() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for taken in itertools.count(1):
            yield -taken

    with Processes(1) as processes:
        assert list(itertools.islice(processes.map(abs, items()), 5)) == [1, 2, 3, 4, 5]
    assert taken < 10


def test_a_process_that_is_ended_is_an_error() -> None:
    with Processes(2) as processes, pytest.raises(MolflddError, match="was ended"):
        list(processes.map(eval, ["1", DEATH, *["1"] * 9]))


def test_work_ends_with_the_block() -> None:
    with Processes(1) as processes:
        (pid,) = itertools.islice(processes.map(eval, [PID, LONG, LONG]), 1)
        started = time.monotonic()
    assert time.monotonic() - started < 20
    assert gone(pid)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there are no such signals here")
def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    code = f"""
        from molfldd.processes import Processes

        if __name__ == "__main__":
            with Processes(1) as processes:
                for _ in processes.map(eval, ["1", *[{LONG!r}] * 9]):
                    print("working", flush=True)
    """
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(code))
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        process.kill()
        process.communicate(timeout=30)  # ends when nobody is left who could still print


def test_there_are_processors() -> None:
    assert 1 <= processors() <= (os.cpu_count() or 1)

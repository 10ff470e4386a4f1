"""The program as a whole: help, exit codes, and one sentence per error."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from program import PROGRAM, Command


@pytest.mark.parametrize("command", ["train", "sample", "evaluate", "datasets"])
def test_help_has_an_example(molfldd: Command, command: str) -> None:
    result = molfldd(command, "--help")
    assert result.code == 0
    assert f"Example: molfldd {command}" in " ".join(result.out.split())
    assert command in molfldd("--help").out


def test_help_without_arguments_and_version(molfldd: Command) -> None:
    assert molfldd().out == molfldd("--help").out
    assert molfldd("--version").out.startswith("molfldd ")


def test_help_needs_no_heavy_import() -> None:
    code = "import sys, molfldd.cli.main; print({'torch', 'rdkit', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    "arguments", [["bake"], ["sample", "--nmu", "3"], ["evaluate"], ["sample", "--num", "many"]]
)
def test_unparsable_command_line(molfldd: Command, arguments: list[str]) -> None:
    result = molfldd(*arguments)
    assert result.code == 2
    assert "--help" in result.error


def test_closed_pipe_is_quiet(checkpoint: Path) -> None:
    arguments = [*PROGRAM, "sample", "--num", "300", "--checkpoint", str(checkpoint)]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(arguments, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.stderr == ""


def test_ctrl_c_is_quiet(molfldd: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("molfldd.molecules.datasets.load_dataset", interrupt)
    result = molfldd("datasets", "tiny")
    assert (result.code, result.err.strip()) == (130, "")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_out_of_memory(molfldd: Command, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fill(name: str) -> None:
        raise error

    monkeypatch.setattr("molfldd.molecules.datasets.load_dataset", fill)
    result = molfldd("datasets", "tiny")
    assert result.code == 1
    assert "smaller batch" in result.error


def test_system_error_is_one_sentence(molfldd: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(name: str) -> None:
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr("molfldd.molecules.datasets.load_dataset", fill)
    result = molfldd("datasets", "tiny")
    assert result.code == 1
    assert result.error == "error: somewhere: No space left on device"

"""Running a command line: what goes wrong is answered in one sentence, never by a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, cast

import typer

from molfldd.cli.train import INTERRUPTED
from molfldd.errors import MolflddError, UsageError

_ParserError = cast(type[Exception], typer.BadParameter.__base__)
"""What typer raises for a command line it cannot parse."""


def _fail(message: str, code: int) -> int:
    typer.echo(f"error: {' '.join(message.split())}", err=True)
    return code


def _explain(error: Any) -> str:
    """What the parser has to say, and where to read more."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "molfldd"
    return f"{error.format_message().rstrip('.')}; see {path} --help"


def _system_problem(error: OSError) -> str:
    where = "" if error.filename is None else f"{error.filename}: "
    return f"{where}{error.strerror or error}"


def _out_of_memory(error: MemoryError | RuntimeError) -> bool:
    """Of Python, of a device, or of torch on the CPU, which says so in words alone."""
    names = {cls.__name__ for cls in type(error).__mro__}
    return bool(names & {"MemoryError", "OutOfMemoryError"}) or "can't allocate" in str(error)


def execute(app: typer.Typer, program: str) -> int:
    """Run a command line; what went wrong is one sentence on stderr, and the exit code says it.

    Returns:
        0 after success, 1 after a failure, 2 if what was asked for is not possible as asked, 130
        after Ctrl-C.
    """
    try:
        return app(prog_name=program, standalone_mode=False) or 0
    except UsageError as error:
        return _fail(str(error), 2)
    except MolflddError as error:
        return _fail(str(error), 1)
    except _ParserError as error:
        return _fail(_explain(error), 2)
    except OSError as error:
        return _fail(_system_problem(error), 1)
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        return _fail("there is not enough memory; choose a smaller batch size", 1)


def run_script(main: Callable[..., None]) -> None:
    """Run a script of one command, as ``molfldd`` itself is run."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    sys.exit(execute(app, sys.argv[0]))

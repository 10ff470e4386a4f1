"""The command line: ``molfldd train``, ``sample``, ``evaluate``, ``diagnose``, ``datasets``."""

from __future__ import annotations

import sys
from typing import Annotated, Any, cast

import typer

from molfldd import __version__
from molfldd.cli.datasets import datasets
from molfldd.cli.diagnose import diagnose
from molfldd.cli.evaluate import evaluate
from molfldd.cli.sample import sample
from molfldd.cli.train import INTERRUPTED, train
from molfldd.errors import MolflddError, UsageError

_ParserError = cast(type[Exception], typer.BadParameter.__base__)
"""What typer raises for a command line it cannot parse."""

app = typer.Typer(rich_markup_mode="markdown", add_completion=False, pretty_exceptions_enable=False)
app.command(epilog="Example: molfldd train qm9 --out runs/qm9")(train)
app.command(epilog="Example: molfldd sample --num 1000 --out molecules.sdf")(sample)
app.command(epilog="Example: molfldd evaluate molecules.smi --reference qm9 --out report.json")(
    evaluate
)
app.command(epilog="Example: molfldd diagnose runs/qm9 --out health.png")(diagnose)
app.command(epilog="Example: molfldd datasets qm9")(datasets)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"molfldd {__version__}")
        raise typer.Exit


@app.callback(
    invoke_without_command=True,
    epilog="Example: molfldd sample --num 8 prints eight molecules as SMILES.",
)
def main(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Generate molecules with Forward-Learned Discrete Diffusion, in about ten parallel steps.

    Sample from an embedded model with "molfldd sample", judge molecules from anywhere with
    "molfldd evaluate", and train a model of your own with "molfldd train RECIPE", which can be
    stopped and resumed at any time; "molfldd diagnose" draws its health. "molfldd datasets" lists
    what data sets, recipes and models there are, and each command explains itself with --help.

    Results go to stdout or to the file you name, progress and errors to stderr. The exit code is
    0 after success, 1 after a failure, 2 if what was asked for is not possible as asked, and 130
    after Ctrl-C.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


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


def _execute() -> int:
    try:
        return app(prog_name="molfldd", standalone_mode=False) or 0
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
    except RuntimeError as error:
        if type(error).__name__ != "OutOfMemoryError":
            raise
        return _fail("the device ran out of memory; choose a smaller batch size", 1)


def run() -> None:
    """Run the command line: the entry point of the program ``molfldd``."""
    sys.exit(_execute())


if __name__ == "__main__":
    run()

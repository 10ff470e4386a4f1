"""The command line: ``molfldd train``, ``sample``, ``evaluate``, ``calibrate``, ..."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from molfldd import __version__
from molfldd.cli.calibrate import calibrate
from molfldd.cli.datasets import datasets
from molfldd.cli.diagnose import diagnose
from molfldd.cli.evaluate import evaluate
from molfldd.cli.running import execute
from molfldd.cli.sample import sample
from molfldd.cli.train import train

app = typer.Typer(rich_markup_mode="markdown", add_completion=False, pretty_exceptions_enable=False)
app.command(epilog="Example: molfldd train qm9 --out runs/qm9")(train)
app.command(epilog="Example: molfldd sample --num 1000 --out molecules.sdf")(sample)
app.command(epilog="Example: molfldd evaluate molecules.smi --reference qm9 --out report.json")(
    evaluate
)
app.command(
    epilog="Example: molfldd calibrate runs/qm9/model.safetensors --out calibrated.safetensors"
)(calibrate)
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
    stopped and resumed at any time; "molfldd diagnose" draws its health, and "molfldd calibrate"
    brings its statistics to those of its data. "molfldd datasets" lists
    what data sets, recipes and models there are, and each command explains itself with --help.

    Results go to stdout or to the file you name, progress and errors to stderr. The exit code is
    0 after success, 1 after a failure, 2 if what was asked for is not possible as asked, and 130
    after Ctrl-C.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run() -> None:
    """Run the command line: the entry point of the program ``molfldd``."""
    sys.exit(execute(app, "molfldd"))


if __name__ == "__main__":
    run()

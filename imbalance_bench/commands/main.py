"""The Typer application; heavy imports wait until a command runs, so that `--help` is fast."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.text import Text

import imbalance_bench
from imbalance_bench.commands import (
    compare,
    datasets,
    detectors,
    diagnose,
    doctor,
    evaluate,
    groups,
    run_folders,
    runs,
    weight_norms,
)
from imbalance_bench.commands.options import console, errors, say
from imbalance_bench.runtime.errors import InputError, MissingDependency, naming_extras
from imbalance_bench.runtime.files import disk_problem
from imbalance_bench.runtime.signals import Stopped, stoppable

app = typer.Typer(
    name="imbalance-bench",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Benchmark and analyse classifier imbalance in object detectors: train the long-tail methods of the BAGS "
    "paper (CVPR 2020) on one detector, and measure what each does to the classifier.",
)
app.command(rich_help_panel="Any detector")(diagnose.diagnose)
app.command(rich_help_panel="Any detector")(evaluate.evaluate)
app.command(rich_help_panel="Any detector")(evaluate.errors)
app.command("weight-norms", rich_help_panel="Any detector")(weight_norms.weight_norms)
app.command(rich_help_panel="Any detector")(groups.groups)
app.command(rich_help_panel="Experiments")(runs.methods)
app.add_typer(datasets.app, name="datasets", rich_help_panel="Experiments")
app.add_typer(detectors.app, name="detectors", rich_help_panel="Experiments")
app.command("run-baseline", rich_help_panel="Experiments")(runs.run_baseline)
app.command(rich_help_panel="Experiments")(run_folders.runs)
app.command("per-category", rich_help_panel="Experiments")(run_folders.per_category)
app.command("proposal-accuracy", rich_help_panel="Experiments")(evaluate.proposal_accuracy)
app.command(rich_help_panel="Experiments")(evaluate.oracles)
app.command(rich_help_panel="Experiments")(compare.compare)
app.command(rich_help_panel="Experiments")(run_folders.export)
app.command("check-runs", rich_help_panel="Experiments")(run_folders.check_runs)
app.command("model-index", rich_help_panel="Experiments")(run_folders.model_index)
app.command(rich_help_panel="This machine")(doctor.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        say(f"imbalance-bench {imbalance_bench.__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error (anywhere on the line).")] = (
        False
    ),
    version: Annotated[bool, typer.Option("--version", help="Show the version.", is_eager=True, callback=_version)] = (
        False
    ),
) -> None:
    """Accept the options of every command."""


def main() -> None:
    """Run the command line; an error prints one clear line, and a traceback only with ``--debug``.

    Exit status: 2 for bad input or a missing extra, 143 and 130 after SIGTERM and Ctrl-C, 1 for any other error.
    """
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    try:
        with stoppable(), naming_extras():
            app(args=[argument for argument in arguments if argument != "--debug"])
    except Stopped as stop:
        console.print("stopped; the same command goes on from here")
        sys.exit(stop.status)
    except Exception as error:
        if debug:
            raise
        bad_input, line = isinstance(error, InputError | MissingDependency), str(error)
        if isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError) and error.filename:
            bad_input = True  # a path on the line is a file where a folder is expected, or the other way round
            line = f"{error.filename2 or error.filename}: {error.strerror}"
        if not bad_input:
            line = disk_problem(error) or f"{type(error).__name__}: {error} (--debug shows where)"
        errors.print(Text.assemble(("error:", "red"), " ", " ".join(line.split())), soft_wrap=True)
        sys.exit(2 if bad_input else 1)

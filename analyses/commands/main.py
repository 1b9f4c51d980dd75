"""The complete command line: the commands of the library and those of the paper's study."""

from __future__ import annotations

from imbalance_bench.commands.main import app
from imbalance_bench.commands.main import main as main

from . import beyond, carry_over, demo, heads, report, run_all, study

app.command(rich_help_panel="The study")(demo.demo)
app.command("run-all", rich_help_panel="The study")(run_all.run_all)
app.command(rich_help_panel="The study")(report.report)
app.command(rich_help_panel="The study")(study.table)
app.add_typer(study.figures, name="figure", rich_help_panel="The study")
app.command(rich_help_panel="The study")(beyond.beyond)
app.command("carry-over", rich_help_panel="The study")(carry_over.carry_over)
app.command(rich_help_panel="The study")(heads.heads)

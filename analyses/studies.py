"""The paper's tables and figures as lists of runs: a study is a sweep over the catalogue, with no code of its own."""

from __future__ import annotations

from dataclasses import dataclass

from imbalance_bench.methods import METHODS, Run, parse


@dataclass(frozen=True)
class Row:
    """One setting of a study.

    Attributes:
        labels: texts of its label columns; ``row`` is the number of the paper's row in parentheses, or empty.
        run: method with its settings.
        framework: framework of its detector, if the study compares frameworks; it is a label too.
    """

    labels: dict[str, str]
    run: Run
    framework: str | None = None

    def detector(self, named: str) -> str:
        """Return the name of the row's detector: ``named``, or that of the row's framework at the same scale."""
        if self.framework is None:
            return named
        from imbalance_bench.detectors.mmdet import catalogue

        return catalogue.of(self.framework, catalogue.get(named).scale).name


@dataclass(frozen=True)
class Study:
    """A table or figure of the paper.

    Attributes:
        name: name on the command line, e.g. ``table 4``.
        title: subject of the study.
        rows: rows in the paper's order; the others of a framework are compared with its first row.
    """

    name: str
    title: str
    rows: tuple[Row, ...]

    def base(self, row: Row) -> Row:
        """Return the row that a row is compared with: the first of the same framework."""
        return next(first for first in self.rows if first.framework == row.framework)

    @property
    def compared(self) -> tuple[Row, ...]:
        """Rows with a number of the paper's, without those that the others are compared with."""
        return tuple(row for row in self.rows if row.labels.get("row") and row != self.base(row))

    @property
    def representatives(self) -> tuple[Row, ...]:
        """The rows of ``compared``, one for each of the paper's: of a method with several variants its default."""
        return tuple({row.labels["row"]: row for row in reversed(self.compared)}.values())[::-1]


def _table1() -> tuple[Row, ...]:
    rows = []
    for method in METHODS.values():
        if method.paper_row is None and method.name != "x2-cls":
            continue
        for variant in method.variants:
            label = f"{method.name} ({variant})" if len(method.variants) > 1 else method.name
            number = f"({method.paper_row})" if method.paper_row else ""
            rows.append(Row({"row": number, "method": label}, method.run(variant)))
    return tuple(rows)


def _frameworks(*frameworks: str, start: int = 1) -> tuple[Row, ...]:
    """Return rows of baseline, control and BAGS for each framework; the paper has no control, so it has no number."""
    rows = []
    for position, framework in enumerate(frameworks):
        number = start + 2 * position
        for label, run in ((f"({number})", "baseline"), ("", "x2-cls"), (f"({number + 1})", "bags")):
            rows.append(Row({"row": label, "framework": framework, "method": run}, parse(run), framework))
    return tuple(rows)


_TABLE2 = _frameworks("Faster R50", "Faster X101", "Cascade X101")

_TABLE3 = _frameworks("Mask R50", "HTC X101", "HTC X101-MS-DCN", start=7)

_TABLE6 = _frameworks("Faster R50", "Mask R50")

_TABLE4 = (
    Row({"row": "(0)", "b": "", "o": "", "N": "-"}, parse("baseline")),
    Row({"row": "(1)", "b": "", "o": "", "N": "4"}, parse("bags:background=false,others=false")),
    Row({"row": "(2)", "b": "yes", "o": "", "N": "4"}, parse("bags:others=false")),
    Row({"row": "(3)", "b": "", "o": "yes", "N": "4"}, parse("bags:background=false")),
    Row({"row": "(4)", "b": "yes", "o": "yes", "N": "2"}, parse("bags:groups=2")),
    Row({"row": "(5)", "b": "yes", "o": "yes", "N": "4"}, parse("bags")),
    Row({"row": "(6)", "b": "yes", "o": "yes", "N": "8"}, parse("bags:groups=8")),
)

_TABLE5 = (
    Row({"row": "(1)", "mode": "train", "part": "fc-cls"}, parse("bags:beta=1")),
    Row({"row": "(2)", "mode": "train", "part": "head"}, parse("bags-head")),
    Row({"row": "(3)", "mode": "tune", "part": "head"}, parse("bags-tune-head")),
    Row({"row": "(4)", "mode": "tune", "part": "all"}, parse("bags-tune-all")),
)

_FIGURE4 = (
    Row({"beta": "baseline"}, parse("baseline")),
    *(Row({"beta": beta}, parse(f"bags:beta={beta}")) for beta in ("0", "0.5", "1", "2", "4", "8", "16", "n", "all")),
)

_FIGURE5 = (
    Row({"method": "baseline", "setting": ""}, parse("baseline")),
    *(
        Row(
            {"method": "reweight-cls", "setting": f"beta {beta}, {'truncated' if truncate else 'not truncated'}"},
            parse(f"reweight-cls:beta={beta},truncate={str(truncate).lower()}"),
        )
        for truncate in (True, False)
        for beta in ("1", "0.999", "0.99", "0.9")
    ),
    *(
        Row({"method": method, "setting": f"tau {tau / 10:.1f}{note}"}, parse(f"{method}:tau={tau / 10:.1f}{options}"))
        for method, options, note in (
            ("tau-norm", "", ", background normalised"),
            ("tau-norm", ",background=false", ", background kept"),
            ("tau-norm-select", "", ""),
        )
        for tau in range(1, 11)
    ),
)

STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        Study("table 1", "Methods transferred from long-tail classification, and BAGS", _table1()),
        Study("table 2", "BAGS on other backbones and cascades", _TABLE2),
        Study("table 3", "BAGS on detectors with masks", _TABLE3),
        Study("table 4", "Parts of BAGS: background group (b), others (o), number of groups (N)", _TABLE4),
        Study("table 5", "What of BAGS is trained, what is tuned (beta 1)", _TABLE5),
        Study("table 6", "BAGS on boxes and masks (in the paper, on COCO-LT)", _TABLE6),
        Study("figure 4", "Others sampled per foreground RoI (beta)", _FIGURE4),
        Study("figure 5", "Settings of re-weighting and of tau-normalisation", _FIGURE5),
    )
}
"""Every study by name."""

"""A page for each method, with all its parts, from records, descriptions and results; nothing of it needs torch."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from analyses.documentation import docstrings, method_pages, pages
from analyses.documentation.measured import control_of, measured
from imbalance_bench.categories import CategoryTable
from imbalance_bench.classifiers import CLASSIFIERS
from imbalance_bench.methods import METHODS, Run, descriptions, parse, start_of
from imbalance_bench.methods.descriptions import describe, source

ROOT = Path(__file__).resolve().parents[2]
MEASURED = measured(pages.RESULTS)
SMALL = pages.RESULTS / "emoji-lt-small"
DIMS = {"fc": 6, "fc_pre_relu": 6, "conv": 10}
TABLE = CategoryTable.from_arrays([4, 40, 400, 4000], image_counts=[3, 30, 300, 3000])


@pytest.mark.parametrize("name", METHODS)
def test_a_page_has_all_its_parts(name: str) -> None:
    method, text = METHODS[name], method_pages.page(METHODS[name], MEASURED)
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings == list(method_pages.PARTS)
    sections = dict(zip(headings, re.split(r"^## .*$", text, flags=re.MULTILINE)[1:], strict=True))
    assert all(len(section.strip()) > 15 for section in sections.values()), sections
    assert text.startswith(f"# {method.title}\n")
    assert sections["Idea"].count(". ") >= 1, "two sentences"
    assert all(f"`{option}`" in sections["Settings"] for option in method.options)
    assert len(method.variants) == 1 or all(f"`{variant}`" in sections["Settings"] for variant in method.variants)
    assert f"--method {name} " in sections["Run it"]
    assert method.source in sections["Cite"] and source(method.source).title in sections["Cite"]
    assert not re.search(r"\bnan\b|None|<\w+ object", text)


def built(run: Run) -> object:
    """Build the classifier of a run, and before it what it starts from."""
    start = start_of(run)
    base = None if start is None else built(start)
    statistics = {name: np.full(TABLE.num_classes, 1.5) for name in run.method.statistics}
    return run.method.build(TABLE, DIMS, base, **run.arguments, **statistics)


@pytest.mark.parametrize("name", METHODS)
def test_a_description_is_of_the_classifier_that_is_built(name: str) -> None:
    classifier = built(METHODS[name].candidate)
    assert type(classifier).__name__ == describe(METHODS[name]).classifier
    assert ", ".join(classifier.taps) == describe(METHODS[name]).features  # type: ignore[attr-defined]


def test_nothing_is_described_that_there_is_not() -> None:
    content = yaml.safe_load(descriptions.PATH.read_text())
    assert list(content["methods"]) and set(content["methods"]) == set(METHODS)
    used = {method.source for method in METHODS.values()}
    used |= {number.source for method in METHODS.values() for number in describe(method).published}
    assert set(content["sources"]) == used
    assert set(content["options"]) <= {option for method in METHODS.values() for option in method.options}


def test_published_numbers_are_numbers() -> None:
    for method in METHODS.values():
        for number in describe(method).published:
            values = [float(value) for value in re.findall(r"[\d.]+", f"{number.before} {number.after}")]
            assert values and all(5 < value < 60 for value in values), number
            assert re.fullmatch(r"\d{4}\.\d{5}", number.source)


def test_wrong_descriptions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    content = yaml.safe_load(descriptions.PATH.read_text())
    monkeypatch.setattr(descriptions, "_read", lambda: content)
    content["methods"]["bags"]["counts"] = "boxes"
    with pytest.raises(ValueError, match="field 'counts' of 'bags' is 'boxes'"):
        describe(METHODS["bags"])
    content["methods"]["bags"] |= {"counts": "images", "colour": "red"}
    with pytest.raises(TypeError, match="colour"):
        describe(METHODS["bags"])
    del content["options"]["groups"]
    with pytest.raises(KeyError, match="groups"):
        describe(METHODS["bags"])


def test_docstrings_are_read_without_their_modules() -> None:
    for name, classifier in CLASSIFIERS.items():
        read = docstrings.prose(name)
        assert read and "Args:" not in read and "``" not in read
        assert read.split("\n")[0].replace("`", "") == str(classifier.__doc__).split("\n")[0].replace("`", "")
    assert docstrings.prose("datasets.sampling.repeat_factors").startswith("Return the (I,) repeat factor")
    with pytest.raises(KeyError):
        docstrings.prose("NoClassifier")


def test_differences_are_those_of_the_tables() -> None:
    """Against a slow way: AP of classes, seed by seed, from the per-category tables of the runs."""

    def tail_and_head(run: str, seed: int) -> tuple[float, float]:
        table = pd.read_csv(SMALL / f"tiny/seed{seed}/{run}/per_category.csv").iloc[:-1]
        return table[table["bin"] <= 2]["ap"].mean(), table[table["bin"] > 2]["ap"].mean()

    rows = MEASURED[(MEASURED["world"] == "emoji-lt-small") & MEASURED["kind"].isin(["default", "variant"])]
    for run, folder in (("seesaw", "seesaw"), ("bags:paper", "bags-paper"), ("x2", "x2"), ("rfs", "rfs")):
        row = rows[rows["run"] == run].iloc[0]
        own = np.array([tail_and_head(folder, seed) for seed in range(int(row["seeds"]))])
        assert np.allclose(own.mean(axis=0), [row["tail"], row["head"]], atol=1e-6)
        control = np.array([tail_and_head(row["control"], seed) for seed in range(len(own))])
        assert np.allclose((own - control).mean(axis=0), [row["tail_over"], row["head_over"]], atol=1e-6), run
        assert (len(own) > 1) == (row["tail_over_half"] > 0)


def test_the_control_is_trained_as_much() -> None:
    expected = {"bags": "x2-cls", "tau-norm": "x2-cls", "x2": "x2", "rfs": "baseline", "rfs-finetune": "x2"}
    assert {run: control_of(parse(run)) for run in expected} == expected
    assert control_of(parse("bags:trains=all")) == "x2"


def test_a_method_that_hurts_says_so() -> None:
    worse = MEASURED[(MEASURED["method"] == "lws") & (MEASURED["kind"] == "default")]
    assert worse["tail_over"].iloc[0] + worse["tail_over_half"].iloc[0] < 0
    text = method_pages.page(METHODS["lws"], MEASURED)
    assert "Measured: on emoji-lt-small (tiny) AP on tail classes is 3.8" in text
    better = MEASURED.assign(tail_over=1.0, head_over=1.0)
    assert "- Measured:" not in method_pages.page(METHODS["lws"], better)
    unmeasured = method_pages.page(replace(METHODS["lws"]), MEASURED[:0])
    assert "Not measured yet." in unmeasured


def test_the_list_has_all_methods() -> None:
    text = method_pages.index(MEASURED)
    assert re.findall(r"\]\(([a-z0-9-]+)\.md\)", text) == [
        method.name for family in method_pages.FAMILIES for method in method_pages.of_family(family)
    ]
    assert "tail, emoji-lt-small" in text and "emoji-lt-small-v1" not in text


def test_no_page_needs_torch() -> None:
    script = (
        "import sys; from analyses.documentation import pages; made = pages.generated();"
        "parts = [part() for part in pages.PARTS.values()];"
        "print(len(made), [name for name in ('torch', 'mmdet', 'mkdocs') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    number, loaded = found.stdout.split(" ", 1)
    assert int(number) > len(METHODS) and loaded.strip() == "[]"

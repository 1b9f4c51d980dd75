"""What the README shows, works."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from imbalance_bench import methods
from imbalance_bench.categories import CategoryTable
from imbalance_bench.classifiers import CLASSIFIERS, LinearClassifier, SoftmaxClassifier

ROOT = Path(__file__).resolve().parents[1]


def test_the_example_method() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    namespace = {**vars(methods), "math": math, "functional": functional, "LinearClassifier": LinearClassifier}
    try:
        exec(code.replace("\n\nMethod(", "\n\nmethod = Method("), namespace)
        counts = np.array([100, 10, 1])
        categories = CategoryTable(np.arange(3), ("a", "b", "c"), counts, counts, ("c", "r", "r"))
        base = SoftmaxClassifier(3, 4)
        method = namespace["method"]
        classifier = method.build(categories, {"fc": 4}, base, **method.options(None))
    finally:
        CLASSIFIERS.pop("LogitAdjustedClassifier", None)
    logits = classifier(torch.randn(5, 4))
    shifted = logits - torch.tensor([math.log(100), math.log(10), 0, 0])
    assert torch.allclose(classifier.scores(logits), shifted.softmax(1))


def test_every_command_it_names_exists() -> None:
    from imbalance_bench.commands.main import app

    known = {command.name or command.callback.__name__ for command in app.registered_commands}  # type: ignore[union-attr]
    known |= {group.name for group in app.registered_groups}
    named = set(re.findall(r"cli\.py ([a-z-]+)", (ROOT / "README.md").read_text()))
    assert named and named <= known


def test_every_file_it_links_exists() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text()):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_its_table_is_the_measured_one() -> None:
    table = (ROOT / "results" / "measured" / "emoji-lt-small" / "table1.md").read_text()
    assert table.strip() in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", ["LICENSE", "CITATION.cff", "CHANGELOG.md", "constraints.txt"])
def test_no_addresses_of_registries(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "index-url" not in text
    assert name != "constraints.txt" or "://" not in text

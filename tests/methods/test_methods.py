"""The catalogue: its rows are the paper's, and its variants set what they say."""

import numpy as np
import pytest
import torch

from analyses import published
from imbalance_bench import methods
from imbalance_bench.categories import CategoryTable
from imbalance_bench.classifiers import SigmoidFocalClassifier, SoftmaxClassifier
from imbalance_bench.methods import METHODS
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.schedule import Schedule


def test_every_row_of_table_1_is_there_once() -> None:
    rows = sorted(method.paper_row for method in METHODS.values() if method.paper_row)
    assert rows == published.table(1)["ID"].tolist() == list(range(1, 15))
    names = ["baseline", "x2", "x2-cls", "finetune-tail", "rfs", "rfs-finetune", "reweight", "reweight-cls", "focal",
             "focal-cls", "ncm-fc", "ncm-conv", "tau-norm", "tau-norm-select", "bags"]  # fmt: skip
    assert [name for name in METHODS if name in names] == names


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda m: m.name)
def test_records_are_consistent(method: methods.Method) -> None:
    for variant, options in method.variants.items():
        assert set(options) <= set(method.parameters)
        assert all(method.parameters[name] != value for name, value in options.items()), "defaults are not repeated"
        assert method.resolve(variant) == (variant, options)
    assert {*method.notes, *method.corrected} <= set(method.variants)
    for option, values in method.tune.items():
        assert method.parameters[option] in values
    if method.starts_from != "scratch":
        name, variant = methods.parse(method.starts_from)
        METHODS[name].resolve(variant)


def test_settings_of_a_variant() -> None:
    bags = METHODS["bags"]
    assert bags.resolve("beta=2") == ("beta=2", {"beta": 2.0})
    assert bags.resolve("others=false,beta=0.5") == ("beta=0.5,others=false", {"beta": 0.5, "others": False})
    assert bags.resolve("beta=all")[1] == {"beta": "all"}
    # Settings that are a named variant's, or the default's, are that variant.
    assert bags.resolve("beta=8,groups=4") == ("released", {})
    assert bags.resolve("background_loss=sigmoid")[0] == "paper"
    assert METHODS["ncm-fc"].resolve("scale=20")[0] == "fixed"
    assert METHODS["ncm-fc"].resolve("pre_relu=true,centres=ground-truth")[0] == "released"
    assert METHODS["rfs"].options("threshold=0.01") == {"repeat": "stochastic", "threshold": 0.01}
    assert METHODS["tau-norm"].options("tau=0.3")["tau"] == 0.3


def test_groups_of_bags() -> None:
    counts = np.array([1, 1, 2, 4, 4, 8, 20])
    categories = CategoryTable(np.arange(1, 8), tuple("abcdefg"), counts, counts, tuple("rrrrrrc"))
    base = SoftmaxClassifier(7, 4)
    for variant, expected in (("edges=8-20", [1] * 5 + [2, 3]), ("edges=balanced,groups=3", [1] * 5 + [2, 3])):
        options = {name: METHODS["bags"].options(variant)[name] for name in ("groups", "edges")}
        assert METHODS["bags"].build(categories, {"fc": 4}, base, **options).groups == expected
    with pytest.raises(InputError, match="option 'edges' of 'bags': expected edges that ascend"):
        METHODS["bags"].build(categories, {"fc": 4}, base, edges="20-8")


@pytest.mark.parametrize("variant", ["x", "bta=1", "groups=x", "others=perhaps", "beta=", "beta=1,,"])
def test_bad_settings(variant: str) -> None:
    with pytest.raises(InputError, match="'bags'"):
        METHODS["bags"].resolve(variant)


def test_sigmoids_start_as_the_softmax_of_the_same_odds() -> None:
    sigmoid = SigmoidFocalClassifier(3, 4)
    torch.nn.init.normal_(sigmoid.weight)
    start = methods.softmax_start(sigmoid)
    features = torch.randn(5, 4)
    scores = start.scores(start(features))
    torch.testing.assert_close(scores[:, :3] / scores[:, 3:], sigmoid(features).exp())
    softmax = SoftmaxClassifier(3, 4)
    assert methods.softmax_start(softmax) is softmax


def test_schedules() -> None:
    full = Schedule(epochs=12, milestones=(8, 11), lr=0.01, batch_size=16)
    assert METHODS["bags"].schedule(full) == full
    tuned = METHODS["finetune-tail"].schedule(full)
    assert (tuned.epochs, tuned.milestones, tuned.lr) == (10, (7,), pytest.approx(1e-4))
    assert METHODS["x2"].schedule(full) == full


@pytest.mark.parametrize("name", ["x2", "logn-cosine"])
def test_what_cannot_be_tried_on_a_finished_detector(name: str) -> None:
    with pytest.raises(InputError, match=f"'{name}' trains more than the classifier or starts from another run"):
        methods.candidates((name,))
    assert name not in {method.name for method in methods.candidates()}

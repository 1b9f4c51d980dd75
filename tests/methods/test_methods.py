"""The catalogue: its rows are the paper's, and each variant has the settings in its name."""

import numpy as np
import pytest
import torch

from analyses import published
from imbalance_bench import methods
from imbalance_bench.categories import CategoryTable
from imbalance_bench.classifiers import SigmoidFocalClassifier, SoftmaxClassifier, softmax_start
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
        assert set(options) <= set(method.options)
        assert all(method.options[name].default != value for name, value in options.items()), (
            "defaults are not repeated"
        )
        run = method.run(variant)
        assert (run.variant, run.settings) == (variant, options)
    assert {} in method.variants.values(), "settings that are all defaults have a name"
    assert {*method.notes, *method.corrected, *filter(None, [method.mended])} <= set(method.variants)
    for option, values in method.tune.items():
        assert method.options[option].default in values
    if method.starts_from != "scratch":
        assert str(methods.start_of(method.default)) == method.starts_from


def test_settings_of_a_variant() -> None:
    bags = METHODS["bags"]
    assert (bags.run("beta=2").variant, bags.run("beta=2").settings) == ("beta=2", {"beta": 2.0})
    both = bags.run("others=false,beta=0.5")
    assert (both.variant, both.settings) == ("beta=0.5,others=false", {"beta": 0.5, "others": False})
    assert bags.run("beta=all").settings == {"beta": "all"}
    # Settings that are a named variant's, or the default's, are that variant.
    assert bags.run("beta=8,groups=4") == bags.default == methods.parse("bags:released")
    assert bags.run("background_loss=sigmoid").variant == "paper"
    assert METHODS["ncm-fc"].run("scale=20").variant == "fixed"
    assert METHODS["ncm-fc"].run("pre_relu=true,centres=ground-truth").variant == "released"
    assert METHODS["rfs"].run("threshold=0.01").options == {"repeat": "stochastic", "threshold": 0.01}
    assert METHODS["tau-norm"].run("tau=0.3").options["tau"] == 0.3


def test_focal_loss_is_the_papers_first_and_the_mended_one_where_a_detector_is_to_be_improved() -> None:
    for name in ("focal", "focal-cls"):
        method = METHODS[name]
        assert (method.default.variant, method.default.settings) == ("released", {"released": True})
        assert (method.candidate.variant, method.candidate.folder) == ("fixed", f"{name}-fixed")
    assert METHODS["ncm-fc"].candidate == METHODS["ncm-fc"].default
    assert METHODS["focal-cls"].under_a_cosine.options["released"] is False  # type: ignore[union-attr]


def test_groups_of_bags() -> None:
    counts = np.array([1, 1, 2, 4, 4, 8, 20])
    categories = CategoryTable(np.arange(1, 8), tuple("abcdefg"), counts, counts, tuple("rrrrrrc"))
    base = SoftmaxClassifier(7, 4)
    for variant, expected in (("edges=8-20", [1] * 5 + [2, 3]), ("edges=balanced,groups=3", [1] * 5 + [2, 3])):
        assert METHODS["bags"].run(variant).build(categories, {"fc": 4}, base).groups == expected
    with pytest.raises(InputError, match="option 'edges' of 'bags': expected whole numbers that ascend from 1"):
        METHODS["bags"].build(categories, {"fc": 4}, base, edges="20-8")


@pytest.mark.parametrize("variant", ["x", "bta=1", "groups=x", "others=perhaps", "beta=", "beta=1,,"])
def test_bad_settings(variant: str) -> None:
    with pytest.raises(InputError, match="'bags'"):
        METHODS["bags"].run(variant)


def test_sigmoids_start_as_the_softmax_of_the_same_odds() -> None:
    sigmoid = SigmoidFocalClassifier(3, 4)
    torch.nn.init.normal_(sigmoid.weight)
    start = softmax_start(sigmoid)
    features = torch.randn(5, 4)
    scores = start.scores(start(features))
    torch.testing.assert_close(scores[:, :3] / scores[:, 3:], sigmoid(features).exp())
    softmax = SoftmaxClassifier(3, 4)
    assert softmax_start(softmax) is softmax


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

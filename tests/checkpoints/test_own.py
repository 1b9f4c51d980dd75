"""Checkpoints: round trips, mmdet's own, and files that are damaged or hostile."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from imbalance_bench.categories import CategoryTable
from imbalance_bench.checkpoints import own as checkpoints
from imbalance_bench.classifiers import GroupSoftmaxClassifier, SoftmaxClassifier
from imbalance_bench.runtime.errors import InputError

PREFIX = "roi_head.bbox_head.fc_cls."


def table(classes: int) -> CategoryTable:
    counts = np.arange(1, classes + 1)
    return CategoryTable(
        np.arange(classes) + 5, tuple(f"c{i}" for i in range(classes)), counts, 3 * counts, ("r",) * classes, (5, 9)
    )


def detector_state(classifier: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {"backbone.weight": torch.ones(3)} | {
        PREFIX + name: value for name, value in classifier.state_dict().items()
    }


def test_round_trip(tmp_path: Path) -> None:
    classifier = GroupSoftmaxClassifier(4, 6, [1, 1, 2, 2], beta="n")
    path = tmp_path / "checkpoint.pth"
    checkpoints.save(path, detector_state(classifier), classifier, table(4))
    content = checkpoints.load(path)
    read = checkpoints.classifiers_of(content, path)["roi_head.bbox_head"]
    assert read.config() == classifier.config()
    assert torch.equal(read.weight, classifier.weight)
    categories = checkpoints.categories_of(content, path)
    assert categories is not None
    assert categories.frame().equals(table(4).frame())
    assert categories.bin_edges == (5, 9)
    assert list(tmp_path.iterdir()) == [path], "nothing is left beside it"


def test_a_foreign_checkpoint_is_softmax(tmp_path: Path) -> None:
    state = {PREFIX + "weight": torch.randn(81, 16), PREFIX + "bias": torch.randn(81)}
    torch.save({"state_dict": state, "meta": {"epoch": 12}}, tmp_path / "mmdet.pth")
    torch.save(state, tmp_path / "bare.pth")
    for name in ("mmdet.pth", "bare.pth"):
        content = checkpoints.load(tmp_path / name)
        (classifier,) = checkpoints.classifiers_of(content, name).values()
        assert isinstance(classifier, SoftmaxClassifier)
        assert classifier.num_classes == 80
        assert torch.equal(classifier.class_weights(), state[PREFIX + "weight"])
        assert checkpoints.categories_of(content, name) is None


def test_a_cascade_has_one_a_stage(tmp_path: Path) -> None:
    state = {}
    for stage in range(3):
        state[f"roi_head.bbox_head.{stage}.fc_cls.weight"] = torch.full((3, 2), float(stage))
        state[f"roi_head.bbox_head.{stage}.fc_cls.bias"] = torch.zeros(3)
    torch.save({"state_dict": state}, tmp_path / "cascade.pth")
    found = checkpoints.classifiers_of(checkpoints.load(tmp_path / "cascade.pth"), "cascade.pth")
    assert list(found) == [f"roi_head.bbox_head.{stage}" for stage in range(3)]
    assert [float(classifier.class_weights()[0, 0]) for classifier in found.values()] == [0, 1, 2]


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("executed"),))  # type: ignore[return-value]


def test_no_pickle_executes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {PREFIX + "weight": torch.zeros(3, 2)}, "meta": Hostile()}, "zip.pth")
    Path("plain.pth").write_bytes(pickle.dumps({"state_dict": Hostile()}))
    for name in ("zip.pth", "plain.pth"):
        with pytest.raises(InputError, match=name):
            checkpoints.load(name)
    assert not Path("executed").exists()


def test_bad_files(tmp_path: Path) -> None:
    whole = tmp_path / "whole.pth"
    torch.save({"state_dict": {PREFIX + "weight": torch.zeros(300, 200)}}, whole)
    cases = {
        "absent": tmp_path / "absent.pth",
        "truncated": tmp_path / "truncated.pth",
        "text": tmp_path / "text.pth",
        "empty": tmp_path / "empty.pth",
        "not a state": tmp_path / "list.pth",
    }
    cases["truncated"].write_bytes(whole.read_bytes()[:20_000])
    cases["text"].write_text("not a checkpoint")
    cases["empty"].write_bytes(b"")
    torch.save([1, 2], cases["not a state"])
    for path in cases.values():
        with pytest.raises(InputError, match=path.name) as caught:
            checkpoints.load(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("state", "expectation"),
    [
        ({"backbone.weight": torch.zeros(2)}, "fc_cls"),
        ({PREFIX + "weight": torch.zeros(5)}, r"expected \(C \+ 1, d\)"),
        ({PREFIX + "weight": torch.zeros(5, 3), PREFIX + "bias": torch.zeros(4)}, "size mismatch|copying a param"),
        ({PREFIX + "bias": torch.zeros(4)}, "weight"),
    ],
)
def test_a_classifier_that_does_not_fit(state: dict[str, torch.Tensor], expectation: str) -> None:
    with pytest.raises(InputError, match=expectation):
        checkpoints.classifiers_of({"state_dict": state}, "x.pth")


def test_a_wrong_configuration() -> None:
    state = detector_state(SoftmaxClassifier(4, 6))
    for config in ({"type": "os.system"}, {"type": "SoftmaxClassifier", "num_classes": 9, "feature_dim": 6}, {"a": 1}):
        with pytest.raises(InputError, match=r"x\.pth"):
            checkpoints.classifiers_of({"state_dict": state, "meta": {"classifier": config}}, "x.pth")


@pytest.mark.parametrize(
    "wrapped",
    ["module.{}", "_orig_mod.{}", "module._orig_mod.{}", "_orig_mod.module.{}", "module.module.{}", "model.{}",
     "_fsdp_wrapped_module.{}", "roi_head._fsdp_wrapped_module.bbox_head._orig_mod.fc_cls.{}"],
)  # fmt: skip
def test_names_without_wrappers(wrapped: str, tmp_path: Path) -> None:
    state = detector_state(SoftmaxClassifier(3, 2))
    inner = "fc_cls" in wrapped
    renamed = {wrapped.format(name.removeprefix(PREFIX) if inner else name): value for name, value in state.items()
               if not inner or name.startswith(PREFIX)}  # fmt: skip
    torch.save({"epoch": 1, "state_dict": renamed | {"ema_backbone_weight": torch.ones(1)}}, tmp_path / "x.pth")
    read = checkpoints.load(tmp_path / "x.pth")["state_dict"]
    assert read.keys() == {name for name in state if not inner or name.startswith(PREFIX)}
    assert all(torch.equal(value, state[name]) for name, value in read.items())


def test_the_weights_with_a_classifier_are_taken(tmp_path: Path) -> None:
    state = detector_state(SoftmaxClassifier(3, 2))
    torch.save({"state_dict": {"discriminator.weight": torch.ones(1)}, "net": state}, tmp_path / "x.pth")
    assert checkpoints.load(tmp_path / "x.pth")["state_dict"].keys() == state.keys()
    torch.save(state | {f"module.{name}": value for name, value in state.items()}, tmp_path / "twice.pth")
    with pytest.raises(InputError, match=r"twice\.pth: field 'backbone\.weight' is there twice"):
        checkpoints.load(tmp_path / "twice.pth")

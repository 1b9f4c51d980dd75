"""Folders of transformers that are refused, in one line that names file, field and what was expected."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import torch

hf = pytest.importorskip("transformers")

from little_transformers import CLASSES, detr, make, rt, save  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from imbalance_bench.classifiers import SoftmaxClassifier  # noqa: E402
from imbalance_bench.datasets.generated import generate  # noqa: E402
from imbalance_bench.detectors.frameworks import open_detector  # noqa: E402
from imbalance_bench.detectors.transformers.detector import Detr, open_folder  # noqa: E402
from imbalance_bench.diagnosis.trials import fitting  # noqa: E402
from imbalance_bench.experiments.benchmark import Benchmark  # noqa: E402
from imbalance_bench.experiments.setup import Setup  # noqa: E402
from imbalance_bench.methods import candidates  # noqa: E402
from imbalance_bench.proposals.postprocess import Postprocess  # noqa: E402
from imbalance_bench.runtime.errors import InputError  # noqa: E402


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DETR, in a process that cannot reach the network."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    save(make("detr"), tmp_path / "my detr", "detr")
    return tmp_path / "my detr"


def opened(folder: Path) -> Detr:
    return open_folder(str(folder), folder / "model.safetensors")


def edit(folder: Path, file: str, **changes: Any) -> None:
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**content, **changes}))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"model_type": "bert"}, "config.json: field 'model_type' is 'bert', expected one of detr, conditional_detr"),
        ({"model_type": None}, "config.json: field 'model_type' is None, expected one of"),
        ({"model_type": "yolos" * 99}, "config.json: field 'model_type' is 'yolosyolos"),
        ({"num_labels": 10**9, "id2label": None}, "field 'num_labels' is 1000000000, expected at most 100,000"),
        ({"decoder_layers": 99999}, "config.json: field 'decoder_layers' is 99999, expected at most 1,000"),
        ({"decoder_layers": 0}, "config.json: field 'decoder_layers' is '0', expected a whole number above 0"),
        ({"decoder_layers": "many"}, "config.json: not a configuration of detr ("),
        ({"d_model": 32}, "model.safetensors: its tensors are not of the model of config.json"),
        ({"id2label": {"0": "one"}}, "'class_labels_classifier.bias' has shape (9,), expected (2,)"),
        ({"backbone_config": None, "backbone": "somebody/resnet", "use_timm_backbone": False},
         "config.json: not a configuration of detr (OfflineModeIsEnabled"),
        ({"d_model": 16, "decoder_attention_heads": 3}, "config.json: "),
        ({"auto_map": {"AutoConfig": "evil--code.Config"}, "model_type": "evil"}, "field 'model_type' is 'evil'"),
    ],
)  # fmt: skip
def test_wrong_configurations(changes: dict[str, Any], line: str, folder: Path) -> None:
    edit(folder, "config.json", **changes)
    with pytest.raises(InputError) as caught:
        opened(folder)
    assert line in str(caught.value) and "\n" not in str(caught.value)


def test_wrong_files(folder: Path, tmp_path: Path) -> None:
    weights = folder / "model.safetensors"
    state = load_file(weights)

    def refused(message: str, checkpoint: Path = weights, source: Path = folder) -> None:
        with pytest.raises(InputError, match=message) as caught:
            open_detector("transformers", str(source), checkpoint).adopt(checkpoint)
        assert "\n" not in str(caught.value)

    refused("option '--model .*none': no such folder, expected one with config.json", source=tmp_path / "none")
    torch.save(state, folder / "pytorch_model.bin")
    refused("pytorch_model.bin: expected a file of safetensors", folder / "pytorch_model.bin")
    refused("other.safetensors: no such file", folder / "other.safetensors")
    (folder / "cut.safetensors").write_bytes(weights.read_bytes()[:5000])
    refused("cut.safetensors: not readable as safetensors", folder / "cut.safetensors")
    name = "class_labels_classifier.weight"
    for change, message in (
        ({name: None}, f"{name}' is missing"),
        ({"more.weight": torch.zeros(1)}, "'more.weight' is unknown"),
        ({name: torch.zeros(5, 16)}, r"has shape \(5, 16\), expected \(9, 16\)"),
        ({name: torch.full((9, 16), torch.nan)}, "the classifier holds values that are NaN or infinite"),
    ):
        changed = {key: value for key, value in {**state, **change}.items() if value is not None}
        save_file(changed, folder / "bad.safetensors")
        refused(message, folder / "bad.safetensors")
    for changes, message in (
        ({"pad_size": {"height": 99, "width": 99}}, "field 'pad_size' is set, expected null"),
        (
            {"image_processor_type": "ViTImageProcessor"},
            "'image_processor_type' is ViTImageProcessor, expected one of a",
        ),
        ({"size": "large"}, "not a processor of images for detr"),
        ({"image_mean": "grey"}, "an image cannot be looked at with it"),
        ({"size": {"height": 10**6, "width": 10**6}}, "field 'height' is 1000000, expected at most 10,000"),
    ):
        text = (folder / "preprocessor_config.json").read_text()
        edit(folder, "preprocessor_config.json", **changes)
        refused(f"preprocessor_config.json: .*{message}")
        (folder / "preprocessor_config.json").write_text(text)
    (folder / "preprocessor_config.json").unlink()
    refused("preprocessor_config.json: no such file, expected what your training prepared images with")
    (folder / "config.json").write_text("[]")
    refused("config.json: expected a JSON object")


def test_layers_that_share_no_weights(folder: Path) -> None:
    """As in published Deformable DETRs, whatever the configuration says of sharing."""
    model: Any = make("two_stage")
    for layer in (*model.class_embed, *model.model.decoder.class_embed):
        layer.weight = torch.nn.Parameter(torch.randn_like(layer.weight))
    weights = save(model, folder, "two_stage")
    detector = opened(folder)
    source = detector.adopt(weights)
    hosted = detector.host(source.classifiers, source.state_dict())
    pixels = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = model(pixels)
        for one in (source, hosted):
            found: Any = one.model(pixels)
            torch.testing.assert_close(found.logits, expected.logits)
            torch.testing.assert_close(found.init_reference_points, expected.init_reference_points)


def test_what_scores_are_sigmoids_alone(tmp_path: Path) -> None:
    save(rt(use_focal_loss=False), tmp_path, "rt")
    with pytest.raises(InputError, match="field 'use_focal_loss' is false, expected true"):
        opened(tmp_path)


def test_class_names(folder: Path) -> None:
    """Names of ``id2label``, unless they are placeholders; a name that is there twice is of no category."""
    weights = folder / "model.safetensors"
    assert opened(folder).check_weights(weights) == {}
    names = {str(label): f"name {label}" for label in range(CLASSES)}
    edit(folder, "config.json", id2label=names)
    assert opened(folder).check_weights(weights) == {"CLASSES": tuple(names.values())}
    edit(folder, "config.json", id2label={**names, "3": "N/A", "5": "N/A"})
    detector = opened(folder)
    assert detector.check_weights(weights) == {} and detector.first_label == 0 and detector.name == "my-detr"


def test_a_backbone_of_timm(folder: Path) -> None:
    """As DETR's published weights have it; the file's weights are in it, whatever the configuration would download."""
    backbone = {"backbone": "resnet18", "out_indices": [4], "use_pretrained_backbone": False}
    model = detr(use_timm_backbone=True, backbone_config=hf.TimmBackboneConfig(**backbone))
    save(model, folder, "detr")
    config = json.loads((folder / "config.json").read_text())["backbone_config"]
    edit(folder, "config.json", backbone_config={**config, "use_pretrained_backbone": True})
    state = opened(folder).adopt(folder / "model.safetensors").state_dict()
    for name, value in model.state_dict().items():
        if "classifier" not in name:
            assert torch.equal(state[f"detector.{name}"], value), name


def test_which_methods_fit(tmp_path: Path) -> None:
    """Sigmoids take what needs no row for background; a softmax takes all."""
    fit, notes = {}, {}
    for kind in ("detr", "rt"):
        data = generate(tmp_path / kind / "data", CLASSES, 6, 2, (64, 64))
        detector = open_folder(str(tmp_path / kind), save(make(kind), tmp_path / kind, kind))
        bench = Benchmark(Setup(data, detector), tmp_path)
        fit[kind], notes[kind] = fitting(bench, detector, candidates(None), asked=False)
    names = {kind: [method.name for method in found] for kind, found in fit.items()}
    assert names["rt"] == ["focal-cls", "bags", "bce", "cls-pw", "eql", "droploss", "federated", "gumbel"]
    assert {"x2-cls", "tau-norm", "bags", "bce", "gumbel"} < set(names["detr"])
    assert any("x2-cls" in note and "a head of sigmoids has none" in note for note in notes["rt"])
    with pytest.raises(InputError, match=r"'seesaw' cannot be tried on .*: it scores background by a row of its own"):
        fitting(bench, detector, candidates(("bce", "seesaw")), asked=True)
    assert isinstance(detector.stock_classifier(3, 4), torch.nn.Module)
    assert not isinstance(detector.stock_classifier(3, 4), SoftmaxClassifier)


def test_a_quality_on_logits() -> None:
    scores = torch.tensor([[0.2, 0.9, 0.1], [0.5, 0.0, 0.5]])
    found = Postprocess(on_logits=True).combined(scores, torch.tensor([1.0, -2.0]))
    torch.testing.assert_close(found[0, 1], (torch.tensor(0.9).logit() + 1).sigmoid())
    assert found[:, 2].tolist() == scores[:, 2].tolist() and found[1, 1] == 0

"""One run by two processes (gloo) equals the run of one process; with torchrun, and with Slurm's variables."""

import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.models.detectors import TwoStageDetector
from mmengine.config import ConfigDict

from imbalance_bench.classifiers import CLASSIFIERS
from imbalance_bench.datasets.prepared import prepare_splits
from imbalance_bench.datasets.registry import DataSet
from imbalance_bench.datasets.split import Split
from imbalance_bench.detectors.mmdet import catalogue
from imbalance_bench.detectors.mmdet.building import build_detector
from imbalance_bench.detectors.mmdet.detector import Detector
from imbalance_bench.evaluation import per_category
from imbalance_bench.experiments.benchmark import Benchmark
from imbalance_bench.experiments.setup import Setup
from imbalance_bench.proposals import store as proposals
from imbalance_bench.runtime import processes as distributed
from imbalance_bench.runtime.errors import InputError
from imbalance_bench.runtime.seeds import epoch_seed
from imbalance_bench.schedule import Schedule
from imbalance_bench.training.end_to_end import train_detector

ROOT = Path(__file__).parents[2]
SHORT = Schedule(epochs=1, lr=0.01, batch_size=4, warmup_iterations=3)
STEPS = Schedule(epochs=2, lr=0.01, batch_size=4, warmup_iterations=0)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As the processes that are started here have it: sums come out the same to the last bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def start(script: str, environment: dict[str, str], *launcher: str) -> subprocess.Popen:
    environment = {
        **os.environ,
        **environment,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'runtime'}",
    }
    command = [sys.executable, *launcher, *([script] if launcher else ["-c", script])]
    return subprocess.Popen(
        command, env=environment, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def torchrun(path: Path, script: str) -> tuple[int, str, str]:
    """Exit status, output and errors of a script in two processes."""
    path.write_text(textwrap.dedent(script))
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", free_port())
    process = start(str(path), {}, *launcher)
    out, err = process.communicate(timeout=400)
    return process.returncode, out, err


def without_chance(detector: Detector) -> Detector:
    """The detector with nothing that is drawn or that depends on the other images of a process.

    No batch norm; every anchor and every proposal is taken, equally many of each image.
    """

    def change(model: ConfigDict) -> None:
        detector.change(model)
        model.backbone.norm_cfg = {"type": "GN", "num_groups": 8, "requires_grad": True}
        model.train_cfg.rpn.assigner.update(pos_iou_thr=0.5, neg_iou_thr=0.5)
        model.train_cfg.rpn.sampler.update(num=1_000_000, pos_fraction=1.0)
        model.train_cfg.rpn_proposal = ConfigDict(
            nms_pre=100, max_per_img=100, nms={"type": "nms", "iou_threshold": 1.0}, min_bbox_size=-1
        )
        model.train_cfg.rcnn.sampler.update(num=1_000_000, pos_fraction=1.0, add_gt_as_proposals=False)

    return replace(detector, change=change)


HOSTED = ("SoftmaxClassifier", "SeesawClassifier", "EQLv2Classifier")
"""The latter two count as they train."""


def untrained(data: DataSet, kind: str) -> tuple[Setup, TwoStageDetector]:
    """A detector that hosts a classifier of that kind."""
    setup = Setup(data, without_chance(catalogue.get("tiny")))
    torch.manual_seed(0)
    classifier = CLASSIFIERS[kind](setup.categories.num_classes, setup.detector.tap_dims["fc"])
    return setup, build_detector(setup.detector, [classifier], seed=0)


def trained(data: DataSet, folder: Path, kind: str) -> dict[str, torch.Tensor]:
    """Weights after two epochs over ten images: six updates, the last of an epoch of two images."""
    setup, model = untrained(data, kind)
    images = setup.training_set(flip=0.0)
    images.get_subset_(10)
    return train_detector(setup.detector, model, images, STEPS, folder / kind, seed=0, precision="fp32").state_dict()


SLURM = """
    from pathlib import Path
    import imbalance_bench
    import torch
    from imbalance_bench.datasets import registry
    from imbalance_bench.runtime.processes import launched, on_main, rank_and_world
    from test_processes import HOSTED, trained

    torch.set_num_threads(1)
    with launched("slurm"):
        data, folder = registry.get("emoji-lt-mini", Path({data!r})), Path({folder!r})
        weights = {{kind: trained(data, folder, kind) for kind in HOSTED}}
        rank, _ = rank_and_world()
        torch.save(weights, folder / f"weights{{rank}}.pth")
    threads = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
    (folder / f"threads{{rank}}").write_text("".join(threads))
"""


def test_two_processes_train_as_one(mini: DataSet, tmp_path: Path) -> None:
    folder = tmp_path / "two"
    folder.mkdir()
    script = textwrap.dedent(SLURM.format(data=str(mini.train_images.parents[1]), folder=str(folder)))
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    slurm = {"SLURM_NTASKS": "2", "SLURM_NODELIST": "localhost"}
    processes = [start(script, {**meeting, **slurm, "SLURM_PROCID": rank, "SLURM_LOCALID": rank}) for rank in "01"]
    for process in processes:
        _, err = process.communicate(timeout=400)
        assert process.returncode == 0, err
    for rank in (0, 1):
        # One that is left would abort the process if it let go of a tensor while the interpreter ends.
        assert "gloo" not in (folder / f"threads{rank}").read_text()
    two = [torch.load(folder / f"weights{rank}.pth") for rank in (0, 1)]
    for kind in HOSTED:
        one = trained(mini, tmp_path / "one", kind)
        before = untrained(mini, kind)[1].state_dict()
        for name, weights in one.items():
            assert torch.equal(two[0][kind][name], two[1][kind][name]), name
            moved = float((weights - before[name]).abs().max())
            # Sums in another order: up to .0015 of what a tensor moved on the processors tried; counts of one process
            # alone are further off by far.
            assert torch.allclose(two[0][kind][name], weights, rtol=0, atol=3e-3 * moved + 1e-7), (kind, name)
        assert float((one["rpn_head.rpn_conv.weight"] - before["rpn_head.rpn_conv.weight"]).abs().max()) > 1e-3
    counts = "roi_head.bbox_head.fc_cls.counts"
    assert two[0]["SeesawClassifier"][counts].sum() > 100
    kept = folder / "SoftmaxClassifier"
    assert len((kept / "console.log").read_text()) > 0 and (kept / "epoch_2.pth").exists()


TORCHRUN = """
    import sys
    import imbalance_bench
    import torch
    from imbalance_bench.commands import main
    from imbalance_bench.detectors.mmdet import catalogue
    from test_processes import SHORT

    torch.set_num_threads(1)
    object.__setattr__(catalogue.get("tiny"), "schedule", SHORT)
    sys.argv = ["cli.py", "run-baseline", "--launcher", "pytorch", "--dataset", "few", *{arguments!r}]
    main.main()
"""


@pytest.fixture(scope="module")
def root(few: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of data sets that holds the small one."""
    root = tmp_path_factory.mktemp("data")
    splits = {
        "train": Split(few.train_annotations, few.train_images),
        "val": Split(few.val_annotations, few.val_images),
    }
    prepare_splits("few", splits, root / "few", what="few", attribution="nobody", bin_edges=few.bin_edges)
    return root


def test_a_run_by_two_processes(root: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    arguments = ["--method", "ncm-fc", "--data-dir", str(root), "--work-dir", str(work)]
    status, out, err = torchrun(tmp_path / "script.py", TORCHRUN.format(arguments=arguments))
    assert status == 0, err
    assert out.count("training the detector") == 1 and out.count("run folder:") == 1  # the main process alone speaks
    bench = Benchmark(Setup.named("few", "tiny", root), work)
    baseline, ncm = bench.folder("baseline"), bench.folder("ncm-fc")
    for folder in (baseline, ncm):
        assert folder.record()["provenance"]["processes"] == 2
        assert 0 <= folder.record()["metrics"]["mAP"] <= 1
        assert len(per_category.read(folder.per_category)) == 13
    assert len(list(work.glob("*/*/*/*/record.json"))) == 2

    # The cache is that of one process, to the last bit: no image twice, none left out.
    stored = {path.name for path in (baseline.path / "proposals").iterdir()}
    assert stored == {"train-fc_pre_relu", "val-fc_pre_relu"}
    for split in ("train", "val"):
        folder = baseline.path / "proposals" / f"{split}-fc_pre_relu"
        together = proposals.read(folder)
        everything = [slice(0, len(together))]
        features, boxes = together.batch(everything)[0], together.stored_boxes.tensor(everything)
        proposals.remove(folder)
        (alone,) = bench.cache(baseline).proposals(split, "fc_pre_relu")
        assert alone.manifest["made_by"] == together.manifest["made_by"]
        for name in ("image_ids", "offsets", "labels", "ground_truth", "frames"):
            assert np.array_equal(getattr(alone, name), getattr(together, name)), name
        assert torch.equal(alone.batch(everything)[0], features) and torch.equal(
            alone.stored_boxes.tensor(everything), boxes
        )


COUNTED = """
    from pathlib import Path
    import imbalance_bench
    import torch
    from imbalance_bench import classifiers
    from imbalance_bench.runtime.processes import launched, on_main, rank_and_world

    def state(name, rows):
        classifier = getattr(classifiers, name)(4, 6).train()
        generator = torch.Generator().manual_seed(1)
        torch.nn.init.normal_(classifier.weight, generator=generator)
        features, labels = torch.randn(8, 6, generator=generator), torch.arange(8) % 5
        if hasattr(classifier, "drawn"):  # the rest of their loss draws features, each process its own
            classifier.remember(features[rows], labels[rows])
            return dict(classifier.named_buffers())
        for _ in range(2):
            classifier.loss(classifier(features[rows]), labels[rows])
        return dict(classifier.named_buffers())

    with launched("pytorch"):
        rank, _ = rank_and_world()
        compared = []
        for name in {names!r}:
            together = state(name, slice(4 * rank, 4 * rank + 4))
            alone = on_main(lambda: state(name, slice(0, 8)))
            for buffer, value in alone.items():
                torch.testing.assert_close(together[buffer], value)
            compared.append(name)
        (Path({folder!r}) / f"compared{{rank}}").write_text(" ".join(compared))
"""


def test_losses_count_over_processes_but_not_where_one_works_alone(tmp_path: Path) -> None:
    names = ["EQLv2Classifier", "FCBLClassifier", "SeesawClassifier", "EquilibriumClassifier"]
    names += ["LOCEClassifier", "BACLClassifier"]
    status, _, err = torchrun(tmp_path / "script.py", COUNTED.format(names=names, folder=str(tmp_path)))
    assert status == 0, err
    assert [(tmp_path / f"compared{rank}").read_text().split() for rank in (0, 1)] == [names, names]


def test_an_error_ends_every_process_with_one_line(root: Path, tmp_path: Path) -> None:
    arguments = ["--data-dir", str(root), "--work-dir", str(tmp_path), "--batch-size", "15"]
    status, _, err = torchrun(tmp_path / "script.py", TORCHRUN.format(arguments=arguments))
    assert status == 1
    assert err.count("error: option '--launcher': 15 images of an update on 2 processes, expected a --batch-size") == 1
    assert err.count("error:") == 1 and not list(tmp_path.glob("*/"))


def test_shares_are_all_items_in_order() -> None:
    for count in (0, 1, 5, 17):
        for world in (1, 2, 3, 8):
            shares = [distributed.share(range(count), rank, world) for rank in range(world)]
            assert [item for part in shares for item in part] == list(range(count))
            assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_every_process_has_a_seed_of_its_own() -> None:
    seeds = {epoch_seed(seed, epoch, rank) for seed in range(3) for epoch in range(50) for rank in range(64)}
    assert len(seeds) == 3 * 50 * 64
    assert [epoch_seed(2, 5, 0), epoch_seed(2, 5)] == [2_039_602] * 2


@pytest.mark.parametrize(
    ("launcher", "expectation"),
    [("pytorch", "RANK is not set"), ("slurm", "SLURM_PROCID is not set"), ("ray", "expected none, pytorch")],
)
def test_a_process_that_nobody_launched(launcher: str, expectation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match=expectation), distributed.launched(launcher):
        pass

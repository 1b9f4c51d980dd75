"""The cache: written data are read back, and a damaged or incomplete cache is never accepted."""

import errno
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from imbalance_bench.proposals import proposal_set
from imbalance_bench.proposals import store as proposals
from imbalance_bench.proposals.blocks import expand
from imbalance_bench.proposals.postprocess import Postprocess, detect
from imbalance_bench.proposals.proposal_set import ProposalSet
from imbalance_bench.proposals.shards import ahead
from imbalance_bench.runtime.errors import InputError


@dataclass
class Image:
    image_id: int
    features: Tensor
    labels: Tensor
    boxes: Tensor
    ground_truth: Tensor
    frame: Tensor
    block: Tensor | None = None
    quality: Tensor | None = None


def images(count: int = 6, views: int = 1, dim: int = 5) -> list[Image]:
    generator = torch.Generator().manual_seed(0)
    made = []
    for _ in range(views):
        for image_id in range(count):
            n = 3 + image_id
            labels = torch.randint(4, (n,), generator=generator)
            made.append(
                Image(
                    100 + image_id,
                    torch.randn(n, dim, generator=generator),
                    labels,
                    torch.rand(n, 4, generator=generator),
                    torch.arange(n) < 2,
                    torch.tensor([100.0, 200.0, 1.0, float(image_id)]),
                )
            )
    return made


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposals, "IMAGES_PER_SHARD", 2)


def write(folder: Path, images: Iterator[Image], made_by: dict[str, Any], dtype: str = "float16") -> None:
    with proposals.Writer(folder, made_by, dtype, batch=4) as writer:
        for image in images:
            writer.add(image)  # type: ignore[arg-type]
    proposals.assemble(folder)


def test_round_trip(tmp_path: Path) -> None:
    whole = images()
    write(tmp_path / "val", iter(whole), {"detector": "x"}, "float32")
    cache = proposals.read(tmp_path / "val")
    assert cache.manifest["made_by"] == {"detector": "x"}
    assert len(cache) == sum(len(image.labels) for image in whole)
    for image, (features, labels, boxes) in zip(whole, map(cache.image, range(6)), strict=True):
        assert torch.equal(features, image.features)
        assert torch.equal(labels, image.labels)
        assert torch.equal(boxes, image.boxes)
    assert torch.equal(torch.from_numpy(cache.frames), torch.stack([image.frame for image in whole]))
    chunks = list(cache.chunks(size=7))
    assert torch.equal(torch.cat([f for f, _ in chunks]), torch.cat([image.features for image in whole]))
    added = torch.cat([f for f, _ in cache.chunks(size=7, ground_truth_only=True)])
    assert torch.equal(added, torch.cat([image.features[:2] for image in whole]))


def test_half_precision_and_relu(tmp_path: Path) -> None:
    write(tmp_path / "a", iter(images()), {}, "float16")
    cache = proposals.read(tmp_path / "a")
    joined = proposal_set.join([cache, cache], relu=[False, True])
    features, _ = joined.batch([slice(0, 10)])
    expected = torch.cat([image.features for image in images()])[:10].half().float()
    assert torch.equal(features, torch.cat([expected, expected.relu()], dim=1))


def test_concatenated_parts_are_read_as_one(tmp_path: Path) -> None:
    made = images(6)
    write(tmp_path / "a", iter(made[:2]), {}, "float32")
    write(tmp_path / "b", iter(made[2:]), {}, "float32")
    write(tmp_path / "whole", iter(made), {}, "float32")
    both = proposal_set.concatenate([proposals.read(tmp_path / "a"), proposals.read(tmp_path / "b")])
    whole = proposals.read(tmp_path / "whole")
    assert both.num_images == whole.num_images
    for position in range(6):
        assert all(map(torch.equal, both.image(position), whole.image(position)))


def test_different_proposals_do_not_join(tmp_path: Path) -> None:
    write(tmp_path / "a", iter(images(6)), {})
    write(tmp_path / "b", iter(images(5)), {})
    with pytest.raises(InputError, match="different proposals"):
        proposal_set.join([proposals.read(tmp_path / "a"), proposals.read(tmp_path / "b")], [False, False])


def test_spans_cross_shards(tmp_path: Path) -> None:
    write(tmp_path / "train", iter(images(count=11)), {}, "float32")
    cache = proposals.read(tmp_path / "train")
    assert len(list((tmp_path / "train").glob("*/features.bin"))) == 3
    everything = torch.cat([image.features for image in images(count=11)])
    spans = [slice(3, 60), slice(0, 2), slice(17, 17), slice(60, len(everything))]
    features, labels = cache.batch(spans)
    assert torch.equal(features, torch.cat([everything[span] for span in spans]))
    assert labels.tolist() == np.concatenate([cache.labels[span] for span in spans]).tolist()
    resident = cache.features[0].to("cpu")
    assert torch.equal(resident.tensor(spans), features), "in a device's memory as on disk"


def test_an_interrupted_cache_is_absent_and_goes_on(tmp_path: Path) -> None:
    def interrupted() -> Iterator[Image]:
        yield from images()[:5]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "train", interrupted(), {"detector": "x"})
    assert not (tmp_path / "train").exists()
    with pytest.raises(InputError, match="not a whole proposal cache"):
        proposals.read(tmp_path / "train")
    with proposals.Writer(tmp_path / "train", {"detector": "x"}, batch=4) as writer:
        assert writer.images == 4, "one shard of four was whole, the fifth image's is dropped"
        for image in images()[4:]:
            writer.add(image)  # type: ignore[arg-type]
    proposals.assemble(tmp_path / "train")
    write(tmp_path / "whole", iter(images()), {"detector": "x"})
    resumed, whole = proposals.read(tmp_path / "train"), proposals.read(tmp_path / "whole")
    assert resumed.manifest == whole.manifest, "checksums too"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train", "whole"], "the partial folders are gone"


def test_a_full_disk_leaves_whole_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: Any, path: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with (
        pytest.raises(OSError, match="No space left"),
        monkeypatch.context() as patched,
        proposals.Writer(tmp_path / "train", {}) as writer,
    ):
        for position, image in enumerate(images()):
            if position == 3:
                patched.setattr(np, "save", full)
            writer.add(image)  # type: ignore[arg-type]
    with proposals.Writer(tmp_path / "train", {}) as writer:
        assert writer.images == 2
        for image in images()[2:]:
            writer.add(image)  # type: ignore[arg-type]
    proposals.assemble(tmp_path / "train")
    assert proposals.read(tmp_path / "train").image_ids.tolist() == list(range(100, 106))


def test_a_cache_of_another_detector_does_not_go_on(tmp_path: Path) -> None:
    with proposals.Writer(tmp_path / "train", {"detector": "x"}) as writer:
        writer.add(images()[0])  # type: ignore[arg-type]
    with proposals.Writer(tmp_path / "train", {"detector": "y"}) as writer:
        assert writer.images == 0


def test_writers_are_brought_to_the_same_image(tmp_path: Path) -> None:
    for stage, count in (("one", 6), ("two", 3)):
        with proposals.Writer(tmp_path / stage, {}) as writer:
            for image in images()[:count]:
                writer.add(image)  # type: ignore[arg-type]
            if stage == "two":
                assert writer.images == 2, "the shard of the third image is open"
    with (
        proposals.Writer(tmp_path / "one", {}) as one,
        proposals.Writer(tmp_path / "two", {}) as two,
    ):
        assert (one.images, two.images) == (6, 3)
        one.rewind(3)
        assert one.images == 2, "a shard is dropped as a whole"
        two.rewind(one.images)
        assert two.images == 2
        for writer in (one, two):
            for image in images()[2:]:
                writer.add(image)  # type: ignore[arg-type]
    manifests = []
    for stage in ("one", "two"):
        proposals.assemble(tmp_path / stage)
        manifests.append(proposals.read(tmp_path / stage).manifest)
    assert manifests[0] == manifests[1]


def test_blocks_of_several_ranks_make_one_part(tmp_path: Path) -> None:
    for rank, block in enumerate((images(count=7)[:4], images(count=7)[4:])):
        with proposals.Writer(tmp_path / "train", {}, rank=rank, world=2) as writer:
            for image in block:
                writer.add(image)  # type: ignore[arg-type]
    proposals.assemble(tmp_path / "train", world=2)
    write(tmp_path / "whole", iter(images(count=7)), {})
    together, whole = proposals.read(tmp_path / "train"), proposals.read(tmp_path / "whole")
    assert together.image_ids.tolist() == whole.image_ids.tolist()
    assert all(
        torch.equal(a[0], b[0]) for a, b in zip(map(together.image, range(7)), map(whole.image, range(7)), strict=True)
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train", "whole"]


def test_an_assembly_that_was_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = (images(count=7)[:4], images(count=7)[4:])

    def write_block(rank: int) -> int:
        with proposals.Writer(tmp_path / "train", {}, rank=rank, world=2) as writer:
            done = writer.images
            for image in blocks[rank][done:]:
                writer.add(image)  # type: ignore[arg-type]
        return done

    assert [write_block(rank) for rank in (0, 1)] == [0, 0]
    moved: list[str] = []

    def rename_once(path: Path, target: Path) -> Path:
        if moved:
            raise KeyboardInterrupt
        moved.append(path.name)
        return original(path, target)

    original = Path.rename
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "rename", rename_once)
        proposals.assemble(tmp_path / "train", world=2)
    assert moved == ["001-00000"], "now among the shards of rank 0"
    assert [write_block(rank) for rank in (0, 1)] == [4, 0]
    proposals.assemble(tmp_path / "train", world=2)
    assert proposals.read(tmp_path / "train").image_ids.tolist() == list(range(100, 107))


@pytest.mark.parametrize("damage", ["truncated features", "changed features", "changed boxes", "no manifest", "labels"])
def test_damage_is_found(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "val"
    write(folder, iter(images()), {}, "float32")
    proposals.read(folder)
    (shard, *_) = sorted(folder.glob("*/"))
    features = shard / "features.bin"
    if damage == "truncated features":
        features.write_bytes(features.read_bytes()[:-4])
    elif damage.startswith("changed"):
        path = shard / f"{damage.split()[1]}.bin"
        content = bytearray(path.read_bytes())
        content[17] ^= 1
        path.write_bytes(content)
    elif damage == "no manifest":
        (folder / "manifest.json").unlink()
    else:
        np.save(shard / "labels.npy", np.load(shard / "labels.npy")[:-1])
    with pytest.raises(InputError):
        proposals.read(folder)


def test_read_ahead_keeps_order_and_errors() -> None:
    assert list(ahead(lambda n: n * n, range(20))) == [n * n for n in range(20)]
    with pytest.raises(ZeroDivisionError):
        list(ahead(lambda n: 1 // n, range(3, -1, -1)))


def test_arrays_are_proposals_too() -> None:
    rows = np.arange(12, dtype=np.float64).reshape(6, 2)
    labels, images = [0, 2, 1, 2, 2, 0], np.array([8, 3, 8, 5, 3, 8])
    found = ProposalSet.from_arrays(rows, labels, image_ids=images, boxes=np.tile(rows, 2))
    assert (found.image_ids.tolist(), found.offsets.tolist()) == ([3, 5, 8], [0, 2, 3, 6])
    features, own, boxes = found.image(2)
    assert features.tolist() == [[0, 1], [4, 5], [10, 11]] and own.tolist() == [0, 1, 0]
    assert boxes[:, 2:].equal(features)
    assert found == ProposalSet.from_arrays(rows, labels, image_ids=images, boxes=np.tile(rows, 2))
    alone = ProposalSet.from_arrays(rows, labels, relu=True)
    assert alone.num_images == 6 and alone.features[0].to("cpu").tensor([slice(1, 3)]).tolist() == [[2, 3], [4, 5]]
    both = proposal_set.concatenate([found, alone])
    assert torch.equal(both.batch([slice(0, 12)])[0][6:], alone.batch([slice(0, 6)])[0])


def test_blocks_and_quality_are_kept(tmp_path: Path) -> None:
    made = images(6)
    for number, image in enumerate(made):
        image.block = (torch.arange(len(image.labels)) + number) % 3
        image.quality = torch.rand(len(image.labels), generator=torch.Generator().manual_seed(number))
    write(tmp_path / "a", iter(made[:4]), {}, "float32")
    write(tmp_path / "b", iter(made[4:]), {}, "float32")
    whole = replace(
        proposal_set.concatenate([proposals.read(tmp_path / name) for name in "ab"]), num_blocks=3,
        postprocess=Postprocess(power=0.5),
    )  # fmt: skip
    assert whole.width == 3 * 6
    features = torch.cat([features for features, _ in whole.chunks(size=7)])
    block = torch.cat([image.block for image in made if image.block is not None])
    assert torch.equal(features, expand(torch.cat([image.features for image in made]), block, 3))
    scores, quality = torch.rand(len(made[5].labels), 5), made[5].quality
    assert quality is not None
    boxes, found, labels = whole.detect(5, scores)
    expected = detect((scores * quality[:, None]).sqrt(), made[5].boxes)
    assert all(map(torch.equal, (boxes, found, labels), expected))
    damaged = next((tmp_path / "a").glob("*/quality.npy"))
    np.save(damaged, np.load(damaged) / 2)
    with pytest.raises(InputError, match="does not match"):
        proposals.read(tmp_path / "a")


def test_parts_without_them_are_as_before(tmp_path: Path) -> None:
    write(tmp_path / "a", iter(images()), {})
    whole = proposals.read(tmp_path / "a")
    assert whole.block is None and whole.quality is None
    assert not any("optional" in shard for shard in whole.manifest["shards"])
    assert not list((tmp_path / "a").glob("*/block.npy"))

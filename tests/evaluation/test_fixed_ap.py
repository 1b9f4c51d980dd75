"""AP_fixed and AP_pool: against all detections of a set, the slow way."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from packages import faster
from torch import Tensor
from torchvision.ops import nms

from imbalance_bench.categories import CategoryTable
from imbalance_bench.evaluation import best_of_each_class, references
from imbalance_bench.evaluation.best_of_each_class import BEFORE_NMS, BestOfEachClass
from imbalance_bench.evaluation.detections import Detections
from imbalance_bench.evaluation.fixed_ap import NO_LIMIT, fixed_ap
from imbalance_bench.evaluation.ground_truth import GroundTruth
from imbalance_bench.evaluation.matching import IOU_THRESHOLDS, match
from imbalance_bench.proposals import store as proposals
from imbalance_bench.proposals.proposal_set import ImageProposals, ProposalSet

CLASSES, IMAGES = 4, 7
COUNTS = np.array([1, 5, 50, 500])
CATEGORIES = CategoryTable(np.arange(1, 5), tuple("abcd"), COUNTS, COUNTS, tuple("rccf"), (10, 100))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> tuple[ProposalSet, Tensor, GroundTruth]:
    """Proposals around objects, scores that tell something, ground truth of all classes but the last."""
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    annotations, scores = [], []
    folder = tmp_path_factory.mktemp("cache") / "val"
    with proposals.Writer(folder, {}, "float32") as writer:
        for image_id in range(1, IMAGES + 1):
            boxes, own = [], []
            for _ in range(5):
                label = int(rng.integers(3))
                x, y, w, h = *rng.uniform(0, 60, 2), *rng.uniform(20, 40, 2)
                annotations.append({"image_id": image_id, "category_id": label + 1, "bbox": [x, y, w, h]})
                for _ in range(6):
                    dx, dy = rng.normal(0, 4, 2)
                    boxes.append([x + dx, y + dy, x + dx + w, y + dy + h])
                    own.append(rng.dirichlet(np.where(np.arange(5) == label, 3.0, 0.5)))
            count = len(boxes)
            writer.add(
                ImageProposals(
                    image_id,
                    torch.rand(count, 2, generator=generator),
                    torch.zeros(count, dtype=torch.long),
                    torch.tensor(boxes, dtype=torch.float32),
                    torch.zeros(count, dtype=torch.bool),
                    torch.tensor([120.0, 120, 1, 1]),
                )
            )
            scores += own
    proposals.assemble(folder)
    content = {
        "images": [{"id": n, "height": 120, "width": 120} for n in range(1, IMAGES + 1)], "annotations": annotations,
        "categories": [{"id": int(i), "name": n} for i, n in zip(CATEGORIES.ids, CATEGORIES.names, strict=True)],
    }  # fmt: skip
    truth = GroundTruth.read(content, CATEGORIES, lvis_style=False)
    return proposals.read(folder), torch.tensor(np.array(scores), dtype=torch.float32), truth


def collected(scores: Tensor, limit: int = BEFORE_NMS, parts: int = 50) -> BestOfEachClass:
    best = BestOfEachClass(CLASSES, limit)
    for start in range(0, len(scores), parts):
        best.add(scores[start : start + parts], start)
    return best


def slow(val: ProposalSet, scores: Tensor) -> set[tuple[int, int, float]]:
    """(image, label, score) of every detection: NMS of each image and class by itself."""
    found = set()
    for position in range(val.num_images):
        rows = val.rows(position)
        boxes = val.stored_boxes.tensor([rows])
        for label in range(CLASSES):
            own = scores[rows, label]
            found |= {(int(val.image_ids[position]), label, float(own[k])) for k in nms(boxes, own, 0.5)}
    return found


def test_all_that_nms_leaves(scene: tuple[ProposalSet, Tensor, GroundTruth]) -> None:
    val, scores, _ = scene
    found = collected(scores).detections(val)
    assert set(zip(found.image_ids.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True)) == slow(
        val, scores
    )


def test_the_best_of_each_class_are_kept(
    scene: tuple[ProposalSet, Tensor, GroundTruth], monkeypatch: pytest.MonkeyPatch
) -> None:
    val, scores, _ = scene
    monkeypatch.setattr(best_of_each_class, "PER_CLASS", 9)
    found = collected(scores).detections(val)
    every = slow(val, scores)
    for label in range(CLASSES):
        best = sorted((score for _, own, score in every if own == label), reverse=True)[:9]
        assert sorted(found.scores[found.labels == label].tolist(), reverse=True) == best


def test_parts_do_not_matter(scene: tuple[ProposalSet, Tensor, GroundTruth]) -> None:
    val, scores, _ = scene
    whole, parts = (collected(scores, limit=60, parts=n).detections(val) for n in (1000, 7))
    for name in ("image_ids", "labels", "boxes", "scores"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name))


def test_fixed_ap_is_ap_without_a_limit(scene: tuple[ProposalSet, Tensor, GroundTruth]) -> None:
    val, scores, truth = scene
    found = collected(scores).detections(val)
    ap, _ = fixed_ap(found, truth)
    expected = faster(found, truth, max_detections=100_000)["ap"]
    np.testing.assert_allclose(ap, expected, atol=1e-9)
    assert np.isnan(ap[3])


def test_pooled_ap_ranks_all_classes_together(scene: tuple[ProposalSet, Tensor, GroundTruth]) -> None:
    val, scores, truth = scene
    found = collected(scores).detections(val)
    _, pool = fixed_ap(found, truth)
    matches = match(found, truth, NO_LIMIT)
    total = sum(len(category.truth_images) for category in matches.categories)
    values = []
    for level in range(len(IOU_THRESHOLDS)):
        ranked = sorted(
            (
                (-score, hit)
                for category in matches.categories
                for score, hit, out in zip(
                    category.scores.tolist(), category.true[level], category.ignored[level], strict=True
                )
                if not out
            ),
            key=lambda pair: pair[0],
        )  # fmt: skip
        hits, curve = 0, []
        for place, (_, hit) in enumerate(ranked, start=1):
            hits += bool(hit)
            curve.append((hits / total, hits / place))
        values.append(np.mean([max((p for r, p in curve if r >= t), default=0) for t in np.linspace(0, 1, 101)]))
    assert pool == pytest.approx(np.mean(values), abs=1e-9)


@pytest.mark.parametrize("federated", [False, True])
def test_a_class_that_is_absent_stands_in_the_pool(federated: bool) -> None:
    """Class a right at .5; b, without ground truth, at .75 where it is absent, and at .9 where nobody looked."""
    images = [{"id": n, "height": 99, "width": 99} for n in (1, 2, 3)]
    images[1]["neg_category_ids"] = [2]
    box = [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10]}]
    truth = GroundTruth.read(
        {"images": images, "annotations": box, "categories": []}, CATEGORIES, lvis_style=federated
    )  # fmt: skip
    corners = np.array([[0.0, 0, 10, 10]] * 3)
    for scores, others in (([0.5, 0.75, 0.9], 1), ([0.5, 0.25, 0.2], 0)):
        found = Detections(np.array([1, 2, 3]), np.array([0, 1, 1]), corners, np.array(scores))
        ap, pool = fixed_ap(found, truth)
        assert ap.tolist() == pytest.approx([1, np.nan, np.nan, np.nan], nan_ok=True)
        assert pool == pytest.approx(1 / (1 + others * (1 if federated else 2)))


def test_a_pool_without_ground_truth() -> None:
    truth = GroundTruth.read(
        {"images": [{"id": 1, "height": 9, "width": 9}], "annotations": [], "categories": []}, CATEGORIES,
        lvis_style=False,
    )  # fmt: skip
    found = Detections(np.array([1]), np.array([0]), np.array([[0.0, 0, 5, 5]]), np.array([0.5]))
    assert np.isnan(fixed_ap(found, truth)[1])


def test_a_scale_of_a_classs_scores_changes_the_pool_alone(scene: tuple[ProposalSet, Tensor, GroundTruth]) -> None:
    val, scores, truth = scene
    scaled = scores.clone()
    scaled[:, 0] *= 0.01
    before, after = (fixed_ap(collected(s).detections(val), truth) for s in (scores, scaled))
    np.testing.assert_allclose(before[0], after[0])
    assert before[1] != pytest.approx(after[1])


def test_class_specific_boxes(scene: tuple[ProposalSet, Tensor, GroundTruth]) -> None:
    val, scores, _ = scene

    def boxes_of_pairs(position: int):  # type: ignore[no-untyped-def]
        own = val.stored_boxes.tensor([val.rows(position)])
        return lambda proposal, label: own[proposal]

    plain, specific = (
        collected(scores).detections(replace(val, boxes_of_pairs=boxes)) for boxes in (None, boxes_of_pairs)
    )
    assert np.array_equal(plain.boxes, specific.boxes)
    assert np.array_equal(plain.scores, specific.scores)


def test_nothing_found(scene: tuple[ProposalSet, Tensor, GroundTruth], tmp_path: Path) -> None:
    val, scores, truth = scene
    ap, pool = fixed_ap(collected(torch.zeros_like(scores)).detections(val), truth)
    assert (ap[:3] == 0).all()
    assert pool == 0


@pytest.mark.parametrize("seed", range(3))
def test_pooled_ap_is_that_of_the_authors_on_lvis_matches(seed: int, tmp_path: Path) -> None:
    """Dave et al. pool what the official package matches image by image, of every category that it judges there."""
    rng = np.random.default_rng(seed)
    images: list[dict] = [{"id": n, "height": 99, "width": 99} for n in range(1, 9)]
    boxes, rows = [], []
    for image in images:
        image["neg_category_ids"] = [4] if rng.random() < 0.6 else []
        image["not_exhaustive_category_ids"] = []
        for _ in range(4):
            label, box = int(rng.integers(3)), [*rng.uniform(0, 60, 2), *rng.uniform(10, 30, 2)]
            boxes.append({"id": len(boxes) + 1, "image_id": image["id"], "category_id": label + 1, "bbox": box})
            boxes[-1] |= {"area": box[2] * box[3], "iscrowd": 0}
            if rng.random() < 0.3:
                image["not_exhaustive_category_ids"] = [label + 1]
            shift = rng.normal(0, 3, 2)
            named = label if rng.random() < 0.7 else int(rng.integers(4))
            rows.append((image["id"], named, *(box[:2] + shift), *(box[:2] + shift + box[2:]), rng.random()))
        rows += [(image["id"], 3, 0, 0, 9, 9, rng.random())]  # the class without a box
    table = np.array(rows)
    found = Detections(table[:, 0].astype(int), table[:, 1].astype(int), table[:, 2:6], table[:, 6])
    categories = [{"id": n, "name": "abcd"[n - 1], "frequency": "f"} for n in range(1, 5)]
    content = {"images": images, "annotations": boxes, "categories": categories}
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    entries = [
        {"image_id": int(row[0]), "category_id": int(row[1]) + 1, "score": row[6],
         "bbox": [row[2], row[3], row[4] - row[2], row[5] - row[3]], "segmentation": []} for row in rows
    ]  # fmt: skip
    with references.lvis_package() as lvis:
        truth = lvis.LVIS(str(tmp_path / "annotations.json"))
        run = lvis.LVISEval(truth, lvis.LVISResults(truth, entries, -1), "bbox")
        run.params.max_dets = -1
        run.params.area_rng, run.params.area_rng_lbl = run.params.area_rng[:1], ["all"]
        run.evaluate()
    parts = [part for part in run.eval_imgs if part is not None]
    scores = np.concatenate([part["dt_scores"] for part in parts])
    total = sum(int((np.array(part["gt_ignore"]) == 0).sum()) for part in parts)
    values = []
    for level in range(10):
        judged = [
            (-score, bool(match))
            for score, match, out in zip(
                scores,
                np.concatenate([part["dt_matches"][level] for part in parts]),
                np.concatenate([part["dt_ignore"][level] for part in parts]),
                strict=True,
            )
            if not out
        ]
        hits, curve = 0, []
        for place, (_, hit) in enumerate(sorted(judged), start=1):
            hits += hit
            curve.append((hits / total, hits / place))
        values.append(np.mean([max((p for r, p in curve if r >= t), default=0) for t in np.linspace(0, 1, 101)]))
    _, pool = fixed_ap(found, GroundTruth.read(content, CATEGORIES, lvis_style=True))
    assert pool == pytest.approx(np.mean(values), abs=1e-9)

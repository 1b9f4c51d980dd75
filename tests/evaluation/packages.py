"""AP of each category by other packages, which share no code with the tested one."""

import contextlib
import io
import json

import numpy as np
import pandas as pd
from faster_coco_eval import COCO as FasterCOCO
from faster_coco_eval import COCOeval_faster
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from imbalance_bench.evaluation.ground_truth import AREA_ALL
from imbalance_bench.evaluation.references import lvis_package, results

MEASURES = ["ap", "ap50", "ap75", "recall"]


def faster(detections, truth, max_detections=300):
    """By faster-coco-eval, of the detections that count."""
    shape = 10, 101, truth.categories.num_classes
    precision, recall = np.zeros(shape), np.zeros(shape[::2])
    if entries := results(detections, truth, max_detections):
        annotations = FasterCOCO(truth.content)
        run = COCOeval_faster(
            annotations, annotations.loadRes(entries), iouType=truth.iou_type, lvis_style=truth.lvis_style
        )
        run.params.maxDets = [max_detections]
        run.params.areaRng, run.params.areaRngLbl = [list(AREA_ALL)], ["all"]
        run.evaluate()
        run.accumulate()
        precision, recall = run.eval["precision"][:, :, :, 0, 0], run.eval["recall"][:, :, 0, 0]
    frame = _measures(precision, recall)
    boxes = np.bincount(truth.labels[~truth.ignored], minlength=len(frame))
    return frame[boxes > 0].reindex(frame.index)


def pycocotools(content, detections, categories, max_detections=300, iou_type="bbox"):
    """By pycocotools, of annotations as they are and all detections."""
    truth = COCO()
    truth.dataset = _complete(content, categories)
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        run = COCOeval(truth, truth.loadRes(_results(detections, categories, iou_type)), iou_type)
        run.params.maxDets = [max_detections]
        run.params.areaRng, run.params.areaRngLbl = [list(AREA_ALL)], ["all"]
        run.evaluate()
        run.accumulate()
    return _measures(run.eval["precision"][:, :, :, 0, 0], run.eval["recall"][:, :, 0, 0])


def official(content, detections, categories, folder, max_detections=300, iou_type="bbox"):
    """By the lvis package, of annotations as they are and all detections."""
    (folder / "truth.json").write_text(json.dumps(_complete(content, categories)))
    with lvis_package() as lvis:
        truth = lvis.LVIS(str(folder / "truth.json"))
        found = lvis.LVISResults(truth, _results(detections, categories, iou_type), max_detections)
        run = lvis.LVISEval(truth, found, iou_type)
        run.params.area_rng, run.params.area_rng_lbl = [list(AREA_ALL)], ["all"]
        run.evaluate()
        run.accumulate()
    return _measures(run.eval["precision"][:, :, :, 0], run.eval["recall"][:, :, 0])


def _measures(precision, recall):
    columns = [precision.mean((0, 1)), precision[0].mean(0), precision[5].mean(0), recall.mean(0)]
    frame = pd.DataFrame(dict(zip(MEASURES, columns, strict=True))).replace(-1, np.nan)
    return frame.rename_axis("label")


def _complete(content, categories):
    """With all fields that the packages need; to them an annotation's id of 0 means "not matched"."""
    names = zip(categories.ids.tolist(), categories.names, strict=True)
    annotations = [
        {"area": a["bbox"][2] * a["bbox"][3], "iscrowd": 0, **a, "id": number}
        for number, a in enumerate(content["annotations"], start=1)
    ]
    images = [{"neg_category_ids": [], "not_exhaustive_category_ids": [], **image} for image in content["images"]]
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name, "frequency": "r"} for number, name in names],
    }


def _results(detections, categories, iou_type):
    corners = detections.boxes.astype(np.float64)
    entries = [
        {"image_id": image, "category_id": category, "bbox": box, "score": score}
        for image, category, box, score in zip(
            detections.image_ids.tolist(),
            categories.ids[detections.labels].tolist(),
            np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1).tolist(),
            detections.scores.astype(np.float64).tolist(),
            strict=True,
        )
    ]
    if iou_type == "segm":
        for row, entry in enumerate(entries):
            del entry["bbox"]
            entry["segmentation"] = detections.masks.rle(row)
    return entries

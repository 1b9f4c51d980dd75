"""A plain configuration of mmdet: Faster R-CNN whose classifier is BAGS, trained by mmdet's own ``tools/train.py``.

What differs from mmdet's own configuration are the import, the box head and one hook. Other classifiers go into the
same place, each reads from the training annotations what it needs (groups, counts, weights):

    classifier = dict(type="SeesawClassifier")
    classifier = dict(type="EQLv2Classifier")
    classifier = dict(type="ShiftedSoftmaxClassifier", margin=True, cosine=30.0, deferred_weights="counts",
                      categories=annotations)  # LDAM-DRW
    sampler = dict(type="RepeatFactorSampler", threshold=0.001)  # in train_dataloader: RFS
"""

_base_ = "mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"

custom_imports = dict(imports=["imbalance_bench"], allow_failed_imports=False)

data_root = "data/emoji-lt-mini/"
annotations = data_root + "annotations/train.json"
metainfo = dict(
    classes=(
        "confused",
        "neutral_face",
        "no_mouth",
        "face_with_diagonal_mouth",
        "frowning",
        "expressionless",
        "kissing",
        "anguished",
        "adult",
        "curly_haired_person",
        "person_with_blond_hair",
        "red_haired_person",
    )
)

model = dict(
    roi_head=dict(
        bbox_head=dict(
            _delete_=True,
            type="ClassifierBBoxHead",
            classifier=dict(type="GroupSoftmaxClassifier", categories=annotations),
            num_classes=len(metainfo["classes"]),
            num_shared_fcs=2,
            in_channels=256,
            fc_out_channels=1024,
            roi_feat_size=7,
            bbox_coder=dict(
                type="DeltaXYWHBBoxCoder", target_means=[0.0, 0.0, 0.0, 0.0], target_stds=[0.1, 0.1, 0.2, 0.2]
            ),
            reg_class_agnostic=True,
            loss_bbox=dict(type="L1Loss", loss_weight=1.0),
        )
    )
)

# Tells the epochs to losses that change on the way (LDAM-DRW), and fits what is fitted last (NCM, LogN).
custom_hooks = [dict(type="ClassifierHook")]

dataset = dict(data_root=data_root, metainfo=metainfo)
train_dataloader = dict(dataset=dict(ann_file="annotations/train.json", data_prefix=dict(img="train/"), **dataset))
val_dataloader = dict(dataset=dict(ann_file="annotations/val.json", data_prefix=dict(img="val/"), **dataset))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + "annotations/val.json")
test_evaluator = val_evaluator

"""Importing mmdet's models registers ours, whatever is imported first."""

import subprocess
import sys

REGISTERED = """
from mmdet.registry import DATA_SAMPLERS, HOOKS, MODELS
from mmengine.registry import init_default_scope
init_default_scope("mmdet")
assert MODELS.get("ClassifierBBoxHead") is not None and MODELS.get("HostedDetector") is not None
assert HOOKS.get("ClassifierHook") is not None
assert DATA_SAMPLERS.get("RepeatFactorSampler") is not None
assert DATA_SAMPLERS.get("ClassBalancedSampler") is not None
"""
# As where mmcv has operators of its own, and so mmdet can be imported before us.
OURS_LAST = """
import sys, imbalance_bench
from imbalance_bench.detectors.mmdet import registration
sys.meta_path.pop(0)
import mmdet.models
registration.install()
"""
# Each imports mmdet's models, whose import registers the head, which may need that very module. What neither imports
# the other, and takes longest, is imported once.
FIRST = """
import os, sys
import mmengine, pandas, scipy.stats, torch, torchvision
assert "imbalance_bench" not in sys.modules and "mmdet" not in sys.modules
for first in {orders!r}:
    child = os.fork()
    if not child:
        exec(first)
        exec({registered!r})
        os._exit(0)  # after an error the child ends with another status
    assert os.waitpid(child, 0)[1] == 0, first
"""
MODULES = ("class_boxes", "passes", "hooks", "samplers", "bbox_head", "hosted", "families", "hosted_detector")


def test_whatever_is_imported_first() -> None:
    orders = [OURS_LAST, "import imbalance_bench.detectors.mmdet.annotation_dataset"]
    orders += [f"import imbalance_bench.detectors.mmdet.{name}" for name in MODULES]
    ours_first = "import sys, imbalance_bench; assert 'torch' not in sys.modules; import mmengine, mmdet.models"
    for script in (f"{ours_first}\n{REGISTERED}", FIRST.format(orders=orders, registered=REGISTERED)):
        found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert found.returncode == 0, found.stderr

"""Shared by all tests: the package first (threads of torch, mmcv's operators), no display, a small data set."""

import imbalance_bench  # noqa: F401  # isort: skip

import os
from pathlib import Path

import matplotlib
import pytest
import torch

from imbalance_bench.datasets import registry
from imbalance_bench.datasets.registry import DataSet

matplotlib.use("Agg")
torch.set_num_threads(1 if os.environ.get("PYTEST_XDIST_WORKER") else 2)


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of data sets that holds emoji-lt-mini."""
    root = tmp_path_factory.mktemp("data")
    registry.prepare("emoji-lt-mini", root)
    return root


@pytest.fixture(scope="session")
def mini(data_root: Path) -> DataSet:
    """emoji-lt-mini, on disk."""
    return registry.get("emoji-lt-mini", data_root)

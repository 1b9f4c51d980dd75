"""Shared by all tests: the package first (it stands in for mmcv's operators), no display, few threads."""

import matplotlib
import torch

import imbalance_bench  # noqa: F401

matplotlib.use("Agg")
torch.set_num_threads(2)

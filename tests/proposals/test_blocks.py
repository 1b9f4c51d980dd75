"""Several classifiers as one on features in blocks, against the several."""

import pytest
import torch

from imbalance_bench.proposals.blocks import expand, join_rows, split_rows, width


@pytest.mark.parametrize("count", [1, 2, 9])
def test_one_classifier_scores_as_the_several(count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(count, 4, 5, generator=generator, dtype=torch.double)
    biases = torch.randn(count, 4, generator=generator, dtype=torch.double)
    features = torch.randn(30, 5, generator=generator, dtype=torch.double)
    block = torch.randint(count, (30,), generator=generator)
    weight, bias = join_rows(weights, biases)
    assert weight.shape == (4, width(5, count)) and bias.shape == (4,)
    joined = torch.nn.functional.linear(expand(features, block, count), weight, bias)
    for row, own, number in zip(joined, features, block.tolist(), strict=True):
        torch.testing.assert_close(row, weights[number] @ own + biases[number])
    for back, given in zip(split_rows(weight, bias, count), (weights, biases), strict=True):
        torch.testing.assert_close(back, given)


def test_without_blocks_nothing_is_added() -> None:
    features = torch.rand(3, 2)
    assert expand(features, None, 1) is features and expand(features, torch.zeros(3), 1) is features
    assert expand(torch.zeros(0, 2), torch.zeros(0), 3).shape == (0, 9)

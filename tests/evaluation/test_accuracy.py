import numpy as np
import pytest
import torch

from imbalance_bench.evaluation.accuracy import ProposalAccuracy


def measured(chunks, num_classes):
    accuracy = ProposalAccuracy(num_classes)
    for scores, labels in chunks:
        accuracy.add(scores, labels)
    return accuracy.frame()


def test_equal_to_a_loop_however_it_is_cut():
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(500, 6, generator=generator)
    labels = torch.randint(6, (500,), generator=generator)
    labels[labels == 2] = 5
    proposals, correct = np.zeros(6, int), np.zeros(6, int)
    for row, label in zip(scores.tolist(), labels.tolist(), strict=True):
        proposals[label] += 1
        correct[label] += row.index(max(row)) == label
    for size in (500, 77, 1):
        frame = measured(zip(scores.split(size), labels.split(size), strict=True), 5)
        assert frame["proposals"].tolist() == proposals.tolist()
        assert frame["correct"].tolist() == correct.tolist()
        assert frame.index.name == "label"
        for label in range(6):
            own = scores[labels == label, label].tolist()
            assert frame["mean_score"][label] == pytest.approx(np.mean(own) if own else np.nan, nan_ok=True)
            gaps = [0.0] * 10
            for row, true in zip(scores.tolist(), labels.tolist(), strict=True):
                if row.index(max(row)) == label:
                    gaps[int(max(row) * 10)] += max(row) - (true == label)
            said = int((scores.argmax(dim=1) == label).sum())
            assert frame["calibration_error"][label] == pytest.approx(sum(map(abs, gaps)) / said, rel=1e-5)
    assert frame["accuracy"].isna().tolist() == [False, False, True, False, False, False]
    assert frame["accuracy"][5] == correct[5] / proposals[5]


def test_background_competes_and_the_lower_label_wins_a_tie():
    scores = torch.tensor([[0.5, 0.5, 0.5], [0.1, 0.5, 0.5], [0.1, 0.1, 0.2], [0.3, 0.2, 0.2]])
    frame = measured([(scores, torch.tensor([0, 2, 2, 2]))], 2)
    assert frame["correct"].tolist() == [1, 0, 1]
    assert frame["proposals"].tolist() == [1, 0, 3]


def test_no_proposals_at_all():
    for chunks in ([], [(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long))]):
        frame = measured(chunks, 2)
        assert frame["proposals"].tolist() == [0, 0, 0]
        assert frame["accuracy"].isna().all()


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (torch.rand(2, 3), torch.tensor([0, 3]), "labels reach"),
        (torch.rand(2, 3), torch.tensor([-1, 0]), "labels reach"),
        (torch.rand(2, 4), torch.tensor([0, 0]), "expected"),
        (torch.rand(2, 3), torch.tensor([0]), "expected"),
        (torch.tensor([[0.1, torch.nan, 0.2]]), torch.tensor([0]), "NaN"),
    ],
)
def test_what_does_not_fit_is_refused(scores, labels, message):
    with pytest.raises(ValueError, match=message):
        measured([(scores, labels)], 2)

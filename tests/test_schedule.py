"""The schedule of the cached trainer equals mmengine's in end-to-end training."""

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS

from imbalance_bench.schedule import Schedule

ITERATIONS = 30
SCHEDULES = {
    "step": Schedule(epochs=12, milestones=(8, 11), lr=0.01, batch_size=16, warmup_iterations=50),
    "cosine": Schedule(epochs=10, lr=0.04, batch_size=16, policy="cosine", warmup_iterations=40, warmup_ratio=0.1),
    "no warm-up": Schedule(epochs=3, milestones=(2,), lr=0.02, batch_size=8, warmup_iterations=0),
}


def mmengine_rates(schedule: Schedule) -> list[float]:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = OptimWrapper(torch.optim.SGD([parameter], lr=schedule.lr))
    schedulers = [
        PARAM_SCHEDULERS.build({**config, "optimizer": optimizer}) for config in schedule.param_scheduler(ITERATIONS)
    ]
    rates = []
    for _ in range(schedule.epochs * ITERATIONS):
        rates.append(optimizer.param_groups[0]["lr"])
        for scheduler in schedulers:
            scheduler.step()
    return rates


@pytest.mark.parametrize("name", SCHEDULES)
def test_rate_is_mmengines(name: str) -> None:
    schedule = SCHEDULES[name]
    ours = [schedule.rate(iteration, ITERATIONS) for iteration in range(schedule.epochs * ITERATIONS)]
    # mmengine multiplies chained schedulers step by step, and does not warm up the floor of the cosine.
    assert ours == pytest.approx(mmengine_rates(schedule), rel=1e-3)


def test_pinned_rates() -> None:
    schedule = SCHEDULES["step"]
    assert schedule.rate(0, 1000) == pytest.approx(0.01 / 3)
    assert schedule.rate(50, 1000) == pytest.approx(0.01)
    assert schedule.rate(8000, 1000) == pytest.approx(0.001)
    assert schedule.rate(11000, 1000) == pytest.approx(0.0001)


def test_unknown_policy() -> None:
    with pytest.raises(ValueError, match="step"):
        Schedule(epochs=1, lr=0.1, batch_size=1, policy="poly")


def test_a_stretched_schedule_keeps_its_curve() -> None:
    schedule = SCHEDULES["step"]
    assert (schedule.stretched(3).epochs, schedule.stretched(3).milestones) == (36, (24, 33))
    assert (schedule.stretched(0.5).epochs, schedule.stretched(0.5).milestones) == (6, (4, 6))
    assert schedule.stretched(0.01).epochs == 1

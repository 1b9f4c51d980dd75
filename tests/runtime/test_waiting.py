"""Many small files in a few threads."""

import threading

import pytest

from imbalance_bench.runtime.waiting import THREADS, in_threads


@pytest.mark.parametrize("count", [0, 1, 255, 256, 257, 2000])
def test_results_are_in_order_and_all_are_counted(count: int) -> None:
    done: list[int] = []
    assert in_threads(lambda item: item**2, range(count), done.append) == [item**2 for item in range(count)]
    assert sum(done) == count


def test_several_threads_wait_at_once() -> None:
    together = threading.Barrier(THREADS, timeout=20)
    first_of_part = {256 * part for part in range(THREADS)}
    in_threads(lambda item: together.wait() if item in first_of_part else 0, range(256 * THREADS))


def test_an_error_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda item: 1 // item, range(-300, 300))

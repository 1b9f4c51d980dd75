"""Training curves can be sent to a tracker if its package is installed."""

import pytest

from imbalance_bench.runtime.errors import InputError
from imbalance_bench.training import trackers as detector


def test_a_tracker_whose_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(detector.TRACKERS, "local", ("LocalVisBackend", "no_such_package"))
    with pytest.raises(InputError, match="needs the package 'no_such_package'"):
        detector.check_tracker("local")
    monkeypatch.setitem(detector.TRACKERS, "local", ("LocalVisBackend", "json"))
    detector.check_tracker("local")
    detector.check_tracker(None)


def test_backends_of_mmengine_exist() -> None:
    import mmengine.visualization  # noqa: F401 - registers them
    from mmengine.registry import VISBACKENDS

    for backend, _ in detector.TRACKERS.values():
        assert VISBACKENDS.get(backend) is not None

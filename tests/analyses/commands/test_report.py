"""The command that writes the page of a study, on runs that were trained, and on what is not there."""

from collections.abc import Callable
from html import unescape
from pathlib import Path

Run = Callable[..., tuple[int, str, str]]
MINI = ("--dataset", "emoji-lt-mini")


def test_a_work_dir(run: Run, folders: tuple[str, ...], tmp_path: Path) -> None:
    _, work, *data = folders
    status, out, err = run("report", work, *MINI, *data, "-o", tmp_path / "new" / "page.html")
    assert status == 0, err
    assert f"written: {tmp_path / 'new' / 'page.html'}" in out and "kinds of errors" in out
    text = unescape((tmp_path / "new" / "page.html").read_text())
    assert "1 method is compared with baseline: the detector as it is; the control x2-cls" in text
    assert "95 % intervals over validation images" in text
    for heading in ("Methods against baseline", "Kinds of errors", "Detections", "Weight norms", "Proposal accuracy"):
        assert f">{heading}</h" in text


def test_nothing_there(run: Run, folders: tuple[str, ...], tmp_path: Path) -> None:
    status, _, err = run("report", folders[1], "--dataset", "emoji-lt-small", "-o", tmp_path / "page.html")
    assert status == 2 and err.count("\n") == 1
    assert "no runs there yet (there are emoji-lt-mini/tiny)" in " ".join(err.split())
    assert not list(tmp_path.iterdir())
    (tmp_path / "page.html").mkdir()
    status, _, err = run("report", folders[1], *MINI, *folders[2:], "-o", tmp_path / "page.html")
    assert status == 2 and err == f"error: {tmp_path / 'page.html'}: Is a directory\n"
    assert [path.name for path in tmp_path.rglob("*")] == ["page.html"], "nothing half-written stays"

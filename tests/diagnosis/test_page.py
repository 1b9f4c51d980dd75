"""The page of a diagnosis: self-contained, with escaped text and sortable tables, at desktop and phone width."""

import base64
import hashlib
import io
import json
import re
import shlex
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from browsing import opened
from matplotlib import pyplot as plt
from their_detector import NAMES, Theirs
from undrawn import undrawn

from imbalance_bench import diagnose, plotting
from imbalance_bench.commands import main
from imbalance_bench.diagnosis import gallery
from imbalance_bench.diagnosis import page as diagnosis_page
from imbalance_bench.diagnosis.advice import Advice
from imbalance_bench.diagnosis.next_step import advise
from imbalance_bench.diagnosis.result import TABLES, Diagnosis


@pytest.fixture(scope="module")
def diagnosis(theirs: Theirs, tmp_path_factory: pytest.TempPathFactory) -> Diagnosis:
    found = diagnose(
        **theirs.arguments, out=tmp_path_factory.mktemp("page") / "out", skip_missing=True,
        methods=("x2-cls", "tau-norm", "bags"), tune=False,
    )  # fmt: skip
    # Random weights recommend nothing; a page with a gallery is what is looked at.
    return replace(found, summary={**found.summary, "recommended": "bags"})


@pytest.fixture(scope="module")
def page(diagnosis: Diagnosis) -> Path:
    return diagnosis_page.write(diagnosis)


def test_it_is_whole_in_itself(page: Path) -> None:
    text = page.read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", text)
    assert "http://" not in text.replace("http://www.w3.org", "")
    (script,) = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert text.count("data:image/svg+xml") == 4 and text.count('<svg class="plot"') == 2
    assert "imbalance_bench.diagnose(detector=" in text and "tune=False" in text, "as it was called"


@undrawn()
def test_its_text_is_of_this_run(diagnosis: Diagnosis) -> None:
    def text(**changes: Any) -> str:
        return diagnosis_page.render(replace(diagnosis, summary={**diagnosis.summary, **changes}))

    plain = text()
    assert "No settings were chosen" in plain and "were chosen by mAP" not in plain
    assert "x2-cls is the control" in plain and "was exported" not in plain
    some = text(tuned={"tau-norm": {"paper": 0.1, "tau=0.5": 0.2}})
    assert "The settings of 1 of the 3 methods were chosen by mAP" in some and "The others have their" in some
    every = text(tuned={name: {"paper": 0.1} for name in ("x2-cls", "tau-norm", "bags")})
    assert "The settings of each were chosen by mAP" in every and "default ones" not in every
    exported = {
        "method": "bags",
        "folder": "export-bags",
        "files": ["config.py", "checkpoint.pth"],
        "needs": "it needs",
    }
    assert "bags was exported: config.py and checkpoint.pth in export-bags/; it needs" in text(exported=exported)
    assert "<dd>1 min 15 s</dd>" in text(seconds=75.4)
    resumed = text(seconds=2.0, resumed={"runs": 3, "seconds": 361.0})
    assert "2.0 s; 3 of its runs were there from an earlier call, which took 6 min 01 s for them" in resumed
    one = replace(diagnosis, fixes=diagnosis.fixes.loc[["bags", "baseline"]])
    assert "is the control" not in diagnosis_page.render(one) and "best of many" not in diagnosis_page.render(one)


def test_what_to_do_next(diagnosis: Diagnosis) -> None:
    """The recommended fix in a sentence, its paper, and the command that makes it, unless it was made already."""
    found = advise(diagnosis)
    # Which variant is best on random weights depends on the processor.
    variant = diagnosis.fixes.loc["bags", "settings"]
    assert found.do == f"Train the classifier anew as BAGS ({variant}), and leave the rest of the detector as it is."
    assert variant in ("paper", "released")
    assert "AP on tail classes" in found.why and "as much longer gives" in found.why
    assert found.holds.startswith("The same rule, choosing on one half") and "200 times over" in found.holds
    assert found.paper == "arXiv 2006.10408" and found.command.endswith(", export='bags')")
    text = diagnosis_page.render(diagnosis)
    assert all(
        part in unescape(text) for part in (found.do, found.why, found.holds, found.paper, found.command, found.runs)
    )

    def changed(**changes: Any) -> Advice:
        return advise(replace(diagnosis, summary={**diagnosis.summary, **changes}))

    called = "imbalance-bench diagnose --config 'a b.py'"
    assert changed(called=called).command == f"{called} --export bags"
    assert changed(recommended="tau-norm").do.startswith("Apply tau-norm")
    exported = {"method": "bags", "folder": "export-bags", "files": ["config.py"], "plain": False, "needs": "it needs"}
    assert changed(exported=exported).runs == "export-bags/ holds config.py; it needs"
    assert not changed(exported=exported).command
    chance = diagnosis.fixes.assign(mAP_low=-1.0)
    nothing = advise(replace(diagnosis, fixes=chance, summary={**diagnosis.summary, "recommended": None}))
    assert "no method gains on the tail" in nothing.do and "Over all classes" not in nothing.why
    helped = diagnosis.fixes.copy()
    helped.loc["tau-norm", ["mAP_gain", "mAP_low", "mAP_high"]] = 0.5, 0.4, 0.6
    of_head = advise(replace(diagnosis, fixes=helped, summary={**diagnosis.summary, "recommended": None}))
    assert "Over all classes tau-norm (paper) gains most: mAP +50.0 [+40.0, +60.0], tail " in of_head.why


def test_the_command_on_the_page_is_the_one_that_was_given(
    theirs: Theirs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each option, a name with a space quoted; called again, the time is the second call's, and that is said."""
    out = tmp_path / "a diagnosis"
    arguments = [
        part
        for name, value in theirs.arguments.items()
        for part in ("--config" if name == "detector" else f"--{name.replace('_', '-')}", str(value))
    ]
    arguments += ["--methods", "tau-norm,x2-cls", "--no-tune", "--skip-missing", "--export", "tau-norm"]
    argv = ["/usr/bin/imbalance-bench", "diagnose", *arguments, "--seed", "7", "--output", str(out)]
    monkeypatch.setattr("sys.argv", argv)
    for again in (False, True):
        with pytest.raises(SystemExit) as stop:
            main.main()
        assert not stop.value.code
        text = (out / "report.html").read_text()
        shown = re.findall("<pre>(.*?)</pre>", text)[-1]
        assert shlex.split(unescape(shown)) == ["imbalance-bench", *argv[1:]]
        assert "tau-norm was exported" in text and "No settings were chosen" in text
        assert ("were there from an earlier call" in text) == again
        summary = json.loads((out / "diagnosis.json").read_text())
        # The run that is exported is made again, as its checkpoint was not kept.
        assert summary["resumed"]["runs"] == (2 if again else 0)


def test_text_is_no_markup(page: Path) -> None:
    text = page.read_text()
    assert NAMES[0] not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_the_gallery_shows_what_is_found(diagnosis: Diagnosis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A detector that missed everything: each image with a tail object that the other finds is one to show."""
    from imbalance_bench.evaluation.detections import Detections

    whole = Detections.load
    none = Detections.from_images([], [])
    monkeypatch.setattr(Detections, "load", lambda path: none if path.parent.name == "baseline" else whole(path))
    for image_id, pixels, truth, shown in gallery.rescued(diagnosis, count=3):
        assert pixels.shape == (96, 128, 3)
        assert (truth["image_id"] == image_id).all()
        assert not len(shown["as it is"])
        found = shown["bags"]
        assert found[found["correct"]]["label"].isin(truth["label"]).all()


def test_figures_survive_names_that_look_like_formulas() -> None:
    boxes = pd.DataFrame({"x1": [1.0], "y1": [1.0], "x2": [9.0], "y2": [9.0], "name": ["$x_^$"], "bin": [1]})
    figure = plotting.contact_sheet(
        [np.zeros((16, 16, 3), np.uint8)], [boxes], {"run": [boxes.assign(correct=True)]}
    )  # fmt: skip
    figure.savefig(io.BytesIO())
    texts = [[text.get_text() for text in axis.texts] for axis in figure.axes]
    assert texts == [["1", "1  $x ^$ (bin 1)"], ["1", "1  $x ^$"]], "a number at the box, and its key"


@pytest.mark.parametrize("width", [1280, 400])
def test_in_a_browser(width: int, page: Path, browser: Any) -> None:
    with opened(browser, page, width) as tab:
        tables = tab.locator(".scroll").evaluate_all("all => all.map(one => one.scrollWidth - one.clientWidth)")
        assert width < 1280 or tables == [0, 0, 0], "no table is cut"

        table = tab.locator("table").last
        column = [head.inner_text().strip() for head in table.locator("th").all()].index("proposals")
        button = table.locator("th button").nth(column)

        def values() -> list[float]:
            return [float(cell.inner_text()) for cell in table.locator(f"tbody tr td:nth-child({column + 1})").all()]

        before = values()
        button.click()
        assert values() == sorted(before, reverse=True)
        button.click()
        assert values() == sorted(before)
        names = table.locator("th button").first
        orders = []
        for _ in range(2):
            names.click()
            orders.append([cell.inner_text() for cell in table.locator("tbody tr td:first-child").all()])
        assert orders[0] == orders[1][::-1]
        assert set(orders[0]) == set(NAMES) - {"no val"}, "markup in a name is shown as it is"


def test_pictures_stay_in_a_copy_without_runs(diagnosis: Diagnosis, tmp_path: Path) -> None:
    """What is kept of a diagnosis, its numbers and a picture, gives the page with the picture and whose it is."""
    diagnosis.save()
    for name in ("diagnosis.json", *(f"{table}.csv" for table in TABLES)):
        (tmp_path / name).write_bytes((diagnosis.folder / name).read_bytes())
    plotting.save(plt.figure(), tmp_path / "examples" / "1 image 7.png")
    kept = Diagnosis.read(tmp_path)
    kept = replace(kept, summary={**kept.summary, "recommended": "bags", "attribution": "Somebody <i>, CC BY 4.0"})
    text = diagnosis_page.write(kept).read_text()
    assert text.count("data:image/png;base64,") == 1 and "1 image 7" not in text and "image 7" in text
    assert "Images: Somebody &lt;i&gt;, CC BY 4.0." in text
    assert (tmp_path / "examples" / "1 image 7.png").exists()

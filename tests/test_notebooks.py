"""The notebooks: from top to bottom on the results in the repository, outputs committed, answer first, public names."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

import imbalance_bench as ib
from analyses.studies import STUDIES

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(path.name for path in FOLDER.glob("*.ipynb"))
OF_STUDIES = {name.replace(" ", "") + ".ipynb": name for name in STUDIES}
"""The study that a notebook shows with ``show_study``."""
SHOWN = re.compile(r'show_study\("(.*?)", "(.*?)"\)')


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(FOLDER / name, as_version=4)


def code(name: str) -> list[str]:
    return [cell.source for cell in read(name).cells if cell.cell_type == "code"]


def test_each_table_and_figure_has_one() -> None:
    names = [*OF_STUDIES, *(f"figure{number}.ipynb" for number in (1, 3, 6))]
    names += [f"{name}.ipynb" for name in ("00_start_here", "your_own_data", "beyond_the_paper", "what_carries_over")]
    names += ["diagnose_predictions.ipynb", "diagnose_your_detector.ipynb"]
    assert sorted(names) == NOTEBOOKS


def test_studies_have_the_same_cells_but_for_name_and_folder() -> None:
    template = [SHOWN.sub("", cell) for cell in code("table1.ipynb")]
    for name, study in OF_STUDIES.items():
        (found,) = SHOWN.findall("\n".join(code(name)))
        assert found[0] == study and (FOLDER / found[1]).is_dir(), name
        assert [SHOWN.sub("", cell) for cell in code(name)] == template, name


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_title_says_where_and_the_answer_is_first(name: str) -> None:
    first = read(name).cells[0]
    title, _, answer = first.source.partition("\n")
    assert first.cell_type == "markdown" and re.match("# [^#]", title)
    if name in OF_STUDIES:
        dataset, detector = SHOWN.findall("\n".join(code(name)))[0][1].split("/")[-2:]
        seeds = {1: "one seed", 3: "three seeds"}
        count = len(list((FOLDER / "../results/measured" / dataset / detector).glob("seed*")))
        assert f"on {dataset}, {detector} " in title and seeds[count] in title
    if name != "your_own_data.ipynb":  # whose answer is on the user's files
        assert re.search("emoji-|LVIS|hdBPMN", title)
    bullets = re.findall(r"^- \*\*", answer, re.MULTILINE)
    assert 2 <= len(bullets) <= 6


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_uses_public_names(name: str) -> None:
    for node in ast.walk(ast.parse("\n".join(code(name)))):
        if isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_"), node.attr
            if isinstance(node.value, ast.Name) and node.value.id == "ib":
                assert node.attr in ib.__all__
        if isinstance(node, ast.Import):
            assert not [a.name for a in node.names if a.name.startswith("imbalance_bench.")]
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("imbalance_bench"):
            assert str(node.module).split(".")[0] == "imbalance_bench_analyses"
            assert not [a.name for a in node.names if a.name.startswith("_")]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_its_links_lead_somewhere_and_no_path_of_a_machine_is_in_it(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([\w./-]+)\)", text):
        assert (FOLDER / target).exists(), target
    plain = re.sub(r'"image/png": ".*?"', "", text)
    assert not re.search(r"/(?:home|work|tmp|root|Users)/", plain)


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelManager]:
    """One kernel for all, as it takes longer to start and to import than a notebook takes to run."""
    manager = KernelManager()
    manager.start_kernel(cwd=FOLDER)
    yield manager
    manager.shutdown_kernel(now=True)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_runs(name: str, kernel: KernelManager) -> None:
    notebook = read(name)
    committed = [cell.get("outputs") for cell in notebook.cells if cell.cell_type == "code"]
    assert any(committed), "it is committed with its outputs"
    notebook.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))  # no names of the one before
    NotebookClient(notebook, km=kernel, timeout=300).execute()
    kinds = {output.output_type for cell in notebook.cells for output in cell.get("outputs", [])}
    assert "error" not in kinds
    assert kinds & {"display_data", "execute_result"}

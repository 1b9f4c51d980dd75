"""The notebooks run from top to bottom on the results in the repository, and are committed with their outputs."""

from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(path.name for path in FOLDER.glob("*.ipynb"))


def test_each_table_and_figure_has_one() -> None:
    figures, tables = (1, 3, 4, 5, 6), (1, 2, 3, 4, 5, 6)
    names = [*(f"figure{number}" for number in figures), *(f"table{number}" for number in tables)]
    names += ["beyond_the_paper", "diagnose_predictions", "diagnose_your_detector", "what_carries_over"]
    assert sorted(f"{name}.ipynb" for name in names) == NOTEBOOKS


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelManager]:
    """One kernel for all, as it takes longer to start and to import than a notebook takes to run."""
    manager = KernelManager()
    manager.start_kernel(cwd=FOLDER)
    yield manager
    manager.shutdown_kernel(now=True)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_runs(name: str, kernel: KernelManager) -> None:
    notebook = nbformat.read(FOLDER / name, as_version=4)
    committed = [cell.get("outputs") for cell in notebook.cells if cell.cell_type == "code"]
    assert any(committed), "it is committed with its outputs"
    notebook.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))  # no names of the one before
    NotebookClient(notebook, km=kernel, timeout=300).execute()
    kinds = {output.output_type for cell in notebook.cells for output in cell.get("outputs", [])}
    assert "error" not in kinds
    assert kinds & {"display_data", "execute_result"}

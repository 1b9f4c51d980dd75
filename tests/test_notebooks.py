"""The notebooks run from top to bottom on the results in the repository, and are committed with their outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(path.name for path in FOLDER.glob("*.ipynb"))


def test_each_table_and_figure_has_one() -> None:
    figures, tables = (1, 3, 4, 5, 6), (1, 2, 3, 4, 5, 6)
    names = [*(f"figure{number}" for number in figures), *(f"table{number}" for number in tables)]
    names += ["beyond_the_paper", "diagnose_your_detector"]
    assert sorted(f"{name}.ipynb" for name in names) == NOTEBOOKS


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_runs(name: str) -> None:
    notebook = nbformat.read(FOLDER / name, as_version=4)
    committed = [cell.get("outputs") for cell in notebook.cells if cell.cell_type == "code"]
    assert any(committed), "it is committed with its outputs"
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(FOLDER)}}).execute()
    kinds = {output.output_type for cell in notebook.cells for output in cell.get("outputs", [])}
    assert "error" not in kinds
    assert kinds & {"display_data", "execute_result"}

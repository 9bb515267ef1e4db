"""docs/results.ipynb runs, and shows what it shows."""

import copy
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "docs" / "results.ipynb"


def executed() -> Any:
    """The notebook as it is when it is run anew, without what differs from run to run."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    NotebookClient(notebook, resources={"metadata": {"path": NOTEBOOK.parent}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the kernel's own parts
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_notebook_shows_what_running_it_gives() -> None:
    kept = nbformat.read(NOTEBOOK, as_version=4)
    again = executed()
    shown = [copy.deepcopy(cell.outputs) for cell in kept.cells if cell.cell_type == "code"]
    assert shown == [cell.outputs for cell in again.cells if cell.cell_type == "code"]
    assert all(shown)


if __name__ == "__main__":
    nbformat.write(executed(), NOTEBOOK)

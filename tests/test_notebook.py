"""The notebooks of docs/ run, and show what they show."""

import copy
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

DOCS = Path(__file__).parents[1] / "docs"

NOTEBOOKS = ("results.ipynb", "python.ipynb")


def executed(name: str) -> Any:
    """The notebook as it is when it is run anew, without what differs from run to run."""
    notebook = nbformat.read(DOCS / name, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    NotebookClient(notebook, resources={"metadata": {"path": DOCS}}, timeout=None).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            # What is said while runs train has times in it.
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the kernel's own parts
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_shows_what_running_it_gives(name: str) -> None:
    kept = nbformat.read(DOCS / name, as_version=4)
    again = executed(name)
    shown = [copy.deepcopy(cell.outputs) for cell in kept.cells if cell.cell_type == "code"]
    assert shown == [cell.outputs for cell in again.cells if cell.cell_type == "code"]
    assert all(shown)


def test_the_notebook_of_python_needs_no_command_line() -> None:
    notebook = nbformat.read(DOCS / "python.ipynb", as_version=4)
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert not any(word in code for word in ("!", "subprocess", "%%bash"))


if __name__ == "__main__":
    for notebook in NOTEBOOKS:
        nbformat.write(executed(notebook), DOCS / notebook)

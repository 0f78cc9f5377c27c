"""The notebooks in `examples` run from top to bottom on small data, and are stored without outputs."""

from __future__ import annotations

import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
LEAVES = {
    "competition_dogs.ipynb": {"submission.csv"},
    "tables_flights.ipynb": {"flights.easylearn"},
}


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(ROOT / "examples" / name, as_version=4)


def test_every_notebook_is_known() -> None:
    assert {f.name for f in (ROOT / "examples").rglob("*.ipynb")} == LEAVES.keys()


@pytest.mark.filterwarnings("ignore")  # of jupyter's own
@pytest.mark.parametrize("name", LEAVES)
def test_it_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {
        "EASYLEARN_QUICK": "1",
        "EASYLEARN_CACHE": str(tmp_path / "cache"),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    for variable, value in settings.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.delenv("MPLBACKEND", raising=False)  # figures are to appear below their cells
    notebook = read(name)
    # A failing cell raises, with its source and its traceback.
    patient = {"timeout": 300, "startup_timeout": 300, "iopub_timeout": 300}  # else outputs of a busy machine are lost
    NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}, **patient).execute()
    assert LEAVES[name] <= {f.name for f in tmp_path.iterdir()}
    said = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    # No warnings; what takes long on a busy machine may say how far it is.
    assert [o["text"] for o in said if o.get("name") == "stderr" and "Warning" in o["text"]] == []
    assert sum("image/png" in o.get("data", {}) for o in said) >= 3


@pytest.mark.parametrize("name", LEAVES)
def test_it_is_stored_without_outputs(name: str) -> None:
    notebook = read(name)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code and all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert notebook.metadata.keys() <= {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"
    assert all(not cell.metadata for cell in notebook.cells)


@pytest.mark.parametrize("name", LEAVES)
def test_it_knows_no_machine(name: str) -> None:
    text = (ROOT / "examples" / name).read_text(encoding="utf-8")
    assert re.findall(r"/(?:home|work|tmp|root|Users|mnt|content|kaggle)/|[A-Z]:\\\\", text) == []

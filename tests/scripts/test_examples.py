"""The examples of scripts/examples run as they stand: the notebook in a real kernel, the loggers with what they log to."""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from small_runs import train_small

EXAMPLES = Path(__file__).resolve().parents[2] / "scripts" / "examples"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES.parents[1]))
    notebook = nbformat.read(EXAMPLES / "tour.ipynb", as_version=4)
    NotebookClient(notebook, timeout=250, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [
        output.get("text") or output["data"]["text/plain"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type in ("execute_result", "stream") and output.get("name") != "stderr"
    ]
    assert 0.9 < float(outputs[0]) < 1
    assert "validation_accuracy" in outputs[1]
    assert outputs[3].startswith("clean 0.9")
    assert "tour-1" in outputs[-1]


class Recorder(types.ModuleType):
    """Stands where a logger's module stands: keeps what it is told."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calls: list[tuple[str, Any, Any]] = []
        self.summary: dict[str, Any] = {}

    def init(self, **options: Any) -> Recorder:
        self.calls.append(("init", (), options))
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *given, **options: self.calls.append((name, given, options))


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_loggers_are_told_every_step(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    told = Recorder(name)
    monkeypatch.setitem(sys.modules, name, told)
    logger = importlib.import_module("loggers").LOGGERS[name]()
    result = train_small(tmp_path / "run", callbacks=[logger])
    steps = [(given[0], options["step"]) for call, given, options in told.calls if call in ("log", "log_metrics")]
    assert [step for _, step in steps] == list(range(1, 13))
    assert all(isinstance(figures["loss"], float) for figures, _ in steps)
    settings = told.calls[0][2].get("config") or told.calls[1][1][0]
    assert settings["noise.scale"] == 1.0
    assert told.calls[-1][0] in ("end_run", "finish")
    if name == "wandb":
        assert told.summary["test_accuracy"] == result.test_accuracy

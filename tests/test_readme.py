"""The README's Python example runs as it stands; its command lines are checked with those of the recipes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from glr_dist.store.checkpoint import load_checkpoint

README = Path(__file__).resolve().parents[1] / "README.md"


def test_the_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ray_session: None
) -> None:
    """With a few steps instead of its thousands."""
    (example,) = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    short, replaced = re.subn(r"\bsteps=\d+", "steps=3", example)
    assert replaced == 1
    torch.manual_seed(0)
    names: dict[str, Any] = {
        "x": torch.rand(640, 64),
        "y": torch.arange(640) % 10,
        "x_test": torch.rand(50, 64),
        "y_test": torch.arange(50) % 10,
    }
    monkeypatch.chdir(tmp_path)
    exec(compile(short, str(README), "exec"), names)
    result = names["result"]
    assert result.steps == load_checkpoint(tmp_path / result.run).step == 3
    assert capsys.readouterr().out == f"{result.test_accuracy} {result.run}\n"

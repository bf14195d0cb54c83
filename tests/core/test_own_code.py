"""Code of the user's own: found by its file or module, called with what it asks for, its frames told, its files known."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from glr_dist.core.own_code import called, look, own, sources
from glr_dist.errors import UserError, own_frames

NETS = """
import beside

class Plain:
    def __init__(self, width=3):
        self.width = width

def both(shape, classes):
    return shape, classes, beside.HIDDEN

def others(inputs, outputs):
    return inputs, outputs

def swapped(classes, *, shape):
    return shape, classes

def one(width):
    return width

def raises(shape, classes):
    return deep(shape)

def deep(shape):
    raise KeyError("weights")
"""
OFFERED = {"shape": (1, 8, 8), "classes": 10}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "beside.py").write_text("HIDDEN = 7\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("both", ((1, 8, 8), 10, 7)),
        ("others", ((1, 8, 8), 10)),  # two arguments of any name: these two, in this order
        ("swapped", ((1, 8, 8), 10)),  # and by their names, in any
    ],
)
def test_it_is_called_with_what_it_asks_for(here: Path, name: str, made: object) -> None:
    assert called("k", name, own("k", f"nets.py:{name}"), OFFERED) == made
    assert called("k", name, own("k", f"nets:{name}"), OFFERED) == made


def test_what_asks_for_nothing_is_called_with_nothing(here: Path) -> None:
    assert called("k", "Plain", own("k", "nets.py:Plain"), OFFERED).width == 3


def test_what_asks_for_something_else_is_told_what_it_is_called_with(here: Path) -> None:
    with pytest.raises(UserError, match=r"takes \(width\), and is called with nothing or \(shape, classes\)"):
        called("k", "one", own("k", "nets.py:one"), OFFERED)


def test_the_users_own_frames_are_told_and_no_others(here: Path) -> None:
    with pytest.raises(
        UserError, match=r"raises\(shape=\(1, 8, 8\), classes=10\) raised KeyError: 'weights'"
    ) as caught:
        called("k", "raises", own("k", "nets.py:raises"), OFFERED)
    assert caught.value.__cause__ is not None
    frames = [(Path(frame.filename).name, frame.name) for frame in own_frames(caught.value.__cause__)]
    assert frames == [("nets.py", "raises"), ("nets.py", "deep")]


def test_a_kept_copy_is_what_is_run_with_its_own_neighbours(here: Path, tmp_path: Path) -> None:
    """Although a module of the same name was imported before, which stays what it is."""
    kept = tmp_path / "run" / "code" / "model"
    kept.mkdir(parents=True)
    (kept / "nets.py").write_text(NETS)
    (kept / "beside.py").write_text("HIDDEN = 8\n")
    for text in ("nets.py:both", "nets:both"):
        assert own("k", text)(1, 2) == (1, 2, 7)
        before = sys.modules.get("nets")
        assert own("k", text, kept)(1, 2) == (1, 2, 8)
        assert sys.modules.get("nets") is before
        assert own("k", text)(1, 2) == (1, 2, 7)
    assert not list(kept.rglob("*.pyc"))  # a run's folder stays as it is


def test_no_installed_module_is_shadowed_by_one_beside_the_code(here: Path) -> None:
    (here / "json.py").write_text("raise SystemExit(9)\n")
    (here / "fresh.py").write_text("import json\n\ndef net():\n    return json.dumps([1])\n")
    assert own("k", "fresh.py:net")() == "[1]"


@pytest.mark.parametrize("text", ["nets.py:both", "nets:both"])
def test_the_files_that_travel_are_the_code_and_what_it_imports_from_its_folder(here: Path, text: str) -> None:
    (here / "unrelated.py").write_text("raise SystemExit(9)\n")
    own("k", text)
    assert sources(text) == {"nets.py": NETS.encode(), "beside.py": b"HIDDEN = 7\n"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nets.py:Plian", "nets.py has no 'Plian'; did you mean 'Plain'"),
        ("net.py:Plain", "there is no file 'net.py'; did you mean 'nets.py'"),
        ("nets.py", "name the class or function in it: nets.py:Plain or nets.py:both"),
        ("broken.py:net", "broken.py, line 2 is no Python"),
        ("nets", "write it as FILE.py:NAME or MODULE:NAME"),
    ],
)
def test_a_wrong_name_is_told_before_anything_is_imported(here: Path, text: str, message: str) -> None:
    (here / "broken.py").write_text("import os\ndef net(:\n")
    with pytest.raises(UserError, match=message):
        look("k", text)

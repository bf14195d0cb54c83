"""What newcomers mistype: each is told in one true line that names the fix, and never by a traceback.

Of those that are known without torch, `test_those_known_without_torch_do_not_wait_for_it` sees to it that they are.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from command_line import call

MINE = """
import torch
from torch import nn
from glr_dist import Heaviside

class Net(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.one, self.two = nn.Linear(torch.Size(shape).numel(), 8), nn.Linear(8, classes)
        self.step = Heaviside()
    def forward(self, x):
        return self.two(self.step(self.one(x.flatten(1))))

class Wide(nn.Module):
    def __init__(self, width):
        super().__init__()

class Few(Net):
    def __init__(self, shape, classes):
        super().__init__(shape, classes - 1)

class Batchy(Net):
    def __init__(self, shape, classes):
        super().__init__(shape, classes)
        self.step = nn.BatchNorm1d(8, track_running_stats=False)

def number(shape, classes):
    return 3

made = Net((1, 8, 8), 10)

def scalar(outputs, labels):
    return outputs.sum()

def text(outputs, labels):
    return "high"

def endless(outputs, labels):
    return outputs[:, 0] / 0

def data():
    return 3
"""

# what is typed after `glr-dist`, and what the line must say; the first part is known without torch
QUICK: list[tuple[str, str]] = [
    ("train mnist-treshold", "did you mean 'mnist-threshold'?"),
    ("train MNIST", "preset 'MNIST': unknown"),
    ("train my.toml", "my.toml: no such file"),
    ("train broken.toml", "not valid TOML"),
    ("train --set lr=0.1", "did you mean 'optimizer.lr'?"),
    ("train --set hidden=[100]", "did you mean 'model.hidden'?"),
    ("train --set scale=1", "did you mean 'noise.scale'?"),
    ("train --set epochs=3", "key 'epochs': unknown"),
    ("train --set noise.sigma=1", "key 'noise.sigma': unknown"),
    ("train --set noise.scal=1", "did you mean 'noise.scale'?"),
    ("train --set noise=gaussian", "is a table of keys"),
    ("train --set noise.scale", "write it as KEY=VALUE"),
    ("train --set noise.scale=wide", "must be a number"),
    ("train --set noise.scale=-1", "must be a finite number above 0"),
    ("train --set noise.family=normal", "noise.family = 'normal': unknown; choose from gaussian, laplace"),
    ("train --set steps=1e3", "steps = 1000.0: must be a whole number"),
    ("train --steps 0", "steps = 0: must be at least 1"),
    ("train --steps many", "'many' is not a valid integer"),
    ("train --set batch=0", "batch = 0: must be at least 1"),
    ("train --set optimizer.lr=0", "optimizer.lr = 0.0: must be above 0"),
    ("train --set optimizer.name=adamm", "did you mean 'adam"),
    ("train --set schedule.name=cosin", "did you mean 'cosine'?"),
    ("train --set model.kind=cnn", "model.kind = 'cnn': unknown"),
    ("train --set model.activation=step", "model.activation = 'step': unknown"),
    ("train --set model.hidden=[0]", "every layer needs at least 1 unit"),
    ("train --set model.kernel=3", "changes nothing with model.kind = 'mlp'"),
    ("train --set model.kind=conv --set model.hidden=[9]", "changes nothing with model.kind = 'conv'"),
    ("train --set model.factory=mine.py:Net", "add --set model.kind=factory"),
    ("train --method backprop", "method = 'backprop': unknown"),
    ("train --method GLR", "method = 'GLR': unknown"),
    ("train --loss crossentropy", "did you mean 'cross-entropy'?"),
    ("train --loss 01", "loss = '01': unknown"),
    ("train --loss mine.py", "name the class or function in it: mine.py:"),
    ("train --loss mine.py:scaler", "did you mean 'scalar'?"),
    ("train --model mine.py", "name the class or function in it: mine.py:Net"),
    ("train --model mine.py:net", "did you mean 'Net'?"),
    ("train --model min.py:Net", "there is no file 'min.py'; did you mean 'mine.py'?"),
    ("train --model Net", "write it as FILE.py:NAME or MODULE:NAME"),
    ("train --model torn.py:Net", "torn.py, line 1 is no Python"),
    ("train --data mine.py:dat", "did you mean 'data'?"),
    ("train --data mnist --set data.name=mnist", "data.name is given twice"),
    ("train --data table.csv --data-root here", "leave it out"),
    ("train --steps 5 --set steps=6", "steps is given twice"),
    ("train --set estimator.copies=3", "antithetic pairs need an even number"),
    ("train --set estimator.scheme=flip", "did you mean 'flips'?"),
    ("train --set estimator.base_draws=2", "changes nothing under estimator.scheme"),
    ("train --workers -7", "engine.workers = -7"),
    ("train --worker 2", "--worker"),
    ("train --journal yes", "journal = 'yes': unknown"),
    ("train --seconds 0", "--seconds"),
    ("train --augment fgms", "did you mean 'fgsm'?"),
    ("train --augment-share 0.5", "changes nothing without --augment"),
    ("train --seed -1", "seed = -1: must be at least 0"),
    ("trian", "trian"),
    ("presets mnist", "preset 'mnist': unknown"),
    ("config lr", "did you mean 'optimizer.lr'?"),
    ("evaluate run --epsilon 0.1", "give one with --attack"),
    ("submit -- trian", "did you mean 'train'?"),
    ("submit -- train my.toml", "my.toml: no such file"),
]
SLOW: list[tuple[str, str]] = [
    ("train --data table.cvs", "did you mean 'table.csv'?"),
    ("train --data table.csv --set data.label=kin", "did you mean 'kind'?"),
    ("train --data table.csv --loss mse", "use --loss cross-entropy"),
    ("train --data numbers.csv", "use --loss mse, mae, bce"),
    ("train --data holes.csv", "has 1 empty cells"),
    ("train --data x.npz", "there are no targets, such as y_train"),
    ("train --data data.zip", "is packed; unpack it"),
    ("train --data mine.py:data", "returned int; return a torch Dataset"),
    ("train mnist-threshold --data-root here", "holds no mnist"),
    ("train --model mine.py:Wide", "takes (width), and is called with nothing or (shape, classes)"),
    ("train --model mine.py:number", "returned int, not a torch.nn.Module"),
    ("train --model mine.py:Few", "model: has 9 outputs, the data have 10 classes"),
    ("train --model mine.py:Batchy", "(BatchNorm1d): one example's output depends on the others in its batch"),
    ("train --loss mine.py:scalar", "has an attribute per = 'batch'"),
    ("train --loss mine.py:text", "returned a str; a loss must return a tensor"),
    ("train --loss mine.py:endless", "losses must be finite"),
    ("train --method bp", "use --set model.activation=relu, or --method straight-through"),
    ("train --method bp --loss zero-one --set model.activation=relu", "the 0-1 loss has no gradient"),
    ("train --set estimator.sites=9", "no parametric layer of that name"),
    ("train --set model.kind=conv", "convolutions leave nothing of 8x8 pixels"),
    ("train --run-dir full", "is not empty: choose another"),
    ("train --resume none", "not a run"),
    ("evaluate none", "there is no"),
    ("replay none", "none is not a run"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    (folder / "mine.py").write_text(MINE)
    (folder / "torn.py").write_text("class Net(:\n")
    (folder / "broken.toml").write_text("steps = = 3\n")
    rng = np.random.default_rng(0)
    rows = [f"{a:.3f},{b:.3f},{'cat' if a > 0 else 'dog'}" for a, b in rng.normal(size=(60, 2))]
    (folder / "table.csv").write_text("\n".join(["a,b,kind", *rows]) + "\n")
    (folder / "numbers.csv").write_text("\n".join(["a,b", *(row.rpartition(",")[0] for row in rows)]) + "\n")
    (folder / "holes.csv").write_text("\n".join(["a,b,kind", *rows, ",0.1,cat"]) + "\n")
    np.savez(folder / "x.npz", x_train=np.zeros((9, 3)))
    (folder / "data.zip").write_bytes(b"PK")
    (folder / "full").mkdir()
    (folder / "full" / "thesis.tex").write_text("do not lose me")
    return folder


@pytest.fixture
def there(files: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(files)
    before = sorted(files.rglob("*"))
    yield files
    assert sorted(files.rglob("*")) == before  # a mistake leaves nothing behind


def one_line(typed: str, said: str) -> None:
    more = ["--workers", "0"] if typed.startswith("train") and "--worker" not in typed else []
    result = call(*shlex.split(typed), *more)
    line = [text for text in result.stderr.splitlines() if not text.startswith(("data: ", "note: "))]
    assert (result.exit_code, len(line)) == (2, 1), result.stderr
    assert said in line[0]


@pytest.mark.parametrize(("typed", "said"), QUICK, ids=[typed for typed, _ in QUICK])
def test_known_at_once(there: Path, typed: str, said: str) -> None:
    one_line(typed, said)


@pytest.mark.parametrize(("typed", "said"), SLOW, ids=[typed for typed, _ in SLOW])
def test_known_when_it_is_tried(there: Path, typed: str, said: str) -> None:
    one_line(typed, said)


def test_those_known_without_torch_do_not_wait_for_it(there: Path) -> None:
    """In a process of its own, where torch that one of them imported would be there for the next."""
    lines = [typed for typed, _ in QUICK]
    program = f"""
import shlex, sys
from glr_dist.cli import main
for line in {lines!r}:
    try: main(shlex.split(line))
    except SystemExit as end: assert end.code == 2, (line, end.code)
    assert not {{"torch", "ray", "numpy", "pyarrow"}} & set(sys.modules), line
"""
    root = str(Path(__file__).resolve().parents[2])
    code = f"import sys; sys.path.insert(0, {root!r})\n{program}"
    done = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-800:]
    assert "Traceback" not in done.stderr


def test_there_are_as_many_as_were_collected() -> None:
    assert len(QUICK) + len(SLOW) >= 71

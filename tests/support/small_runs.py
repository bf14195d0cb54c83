"""Training runs of a fraction of a second on scikit-learn's digits, and looks into what they left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
import torch
from torch import nn
from watched_pool import WatchedPool

from glr_dist.config import Config, parse_config
from glr_dist.core.activations import Heaviside
from glr_dist.data.arrays import ArrayDataset
from glr_dist.engine import session
from glr_dist.engine.assembly import assemble_crew
from glr_dist.engine.callbacks import TrainResult
from glr_dist.engine.checks import set_up
from glr_dist.engine.config import EngineConfig
from glr_dist.engine.crew import Crew
from glr_dist.engine.replay import replay
from glr_dist.engine.task import Task
from glr_dist.engine.verify import verify
from glr_dist.methods.method import named_method
from glr_dist.store.checkpoint import load_checkpoint
from glr_dist.store.journal import JournalReader
from glr_dist.store.metrics import read_metrics
from glr_dist.store.storage import Storage
from glr_dist.workers.pool import Call, PoolPolicy

STEPS = 12
SMALL: dict[str, Any] = {
    "steps": STEPS,
    "batch": 32,
    "validate_every": 4,
    "checkpoint_every": 4,
    "model.hidden": [12],
    "estimator.copies": 8,
    "units.rows": 8,  # 4 blocks a step
    "units.copies": 4,  # each of 2 pieces a site
    "noise.table_size": 2**16,
    "engine.workers": 0,
}
JOINT = {"estimator.scheme": "joint"}
CONV = {"model.kind": "conv", "model.hidden": [50], "model.channels": [4], "model.kernel": 3}
ES = {"method": "es", "noise.scale": 0.1}


_assemble: list[Callable[..., Crew]] = [assemble_crew]  # how the crew of a small run is assembled: the last of these


@lru_cache
def digits(shards: int = 3) -> ArrayDataset:
    """1,400 training rows, a tenth of them for validation, in some shards, and 397 test rows; images [1, 8, 8]."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x, y = (bunch.images[:, None] * 15.9375).astype(np.uint8), bunch.target
    return ArrayDataset((x[:1400], y[:1400]), (x[1400:], y[1400:]), shards=shards)


def small_config(keys: Mapping[str, Any] | None = None) -> Config:
    """The small run's config with some keys replaced."""
    return parse_config("", SMALL | dict(keys or {}))


def small_toml(path: Path, **keys: object) -> Path:
    """The small run's config as a file, on the digits that come with scikit-learn."""
    tree: dict[str, object] = {}
    for key, value in (SMALL | keys).items():
        *above, last = key.split(".")
        place = tree
        for name in above:
            place = place.setdefault(name, {})  # type: ignore[assignment]
        place[last] = value
    tree["data"] = {"name": "digits", "shards": 3}
    path.write_text(tomli_w.dumps(tree))
    return path


def small_task(keys: Mapping[str, Any] | None = None, data: Any = None, loss: Any = None, model: Any = None) -> Task:
    """What the small run trains, with the initial parameters of `train`."""
    return set_up(small_config(keys), model, data or digits(), loss)[1]


def train_small(folder: Path, keys: Mapping[str, Any] | None = None, **arguments: Any) -> TrainResult:
    """Train on the digits into ``folder``."""
    chosen: dict[str, Any] = {"data": digits(), "say": lambda line: None, "crew": _assemble[-1]} | arguments
    return session.train(config=small_config(keys), run_dir=folder, **chosen)


def resume_small(folder: Path, **arguments: Any) -> TrainResult:
    """Continue what `train_small` began."""
    chosen: dict[str, Any] = {"data": digits(), "say": lambda line: None, "crew": _assemble[-1]} | arguments
    return session.resume(folder, **chosen)


def check_that_it_lasts(folder: Path, keys: Mapping[str, Any]) -> None:
    """A run that is interrupted and resumed ends as the undisturbed one, and is replayed and audited bit for bit."""
    whole = train_small(folder / "whole", keys)
    train_small(folder / "run", keys, seconds=0.0)
    resume_small(folder / "run")
    assert outcome(folder / "run") == outcome(folder / "whole")
    if named_method(small_config(keys).method).observes:
        assert whole.journal
        assert replay(folder / "run", data=digits()).equal is True
        checked = verify(folder / "run", 1.0, seed=1, data=digits())
        assert (checked.checked, checked.differences) == (checked.units, ())


def check_that_crews_agree(folder: Path, keys: Mapping[str, Any]) -> None:
    """Two workers and a reconstructor end where this process alone does."""
    train_small(folder / "alone", keys)
    train_small(folder / "crew", {**keys, "engine.workers": 2, "engine.reconstructors": 1})
    assert outcome(folder / "crew") == outcome(folder / "alone")


def outcome(folder: Path) -> dict[str, Any]:
    """Everything a run left that does not tell the time, as plain comparable values."""
    run = Storage.at(folder)
    checkpoint = load_checkpoint(run)
    journal = JournalReader(run)
    rows = [row for step in journal.steps() for row in journal.read(step)]
    lines = [line for line in read_metrics(run) if "evaluation_accuracy" not in line]  # these come when they come
    metrics = [{key: v for key, v in line.items() if key != "seconds" and not key.startswith("ms/")} for line in lines]
    return {
        "step": checkpoint.step,
        "weights": {name: _plain(tensor) for name, tensor in checkpoint.weights.items()},
        "training": _plain(checkpoint.training),
        "noisy_forwards": checkpoint.meta["clock"]["noisy_forwards"],
        "journal": [(r.step, r.site, r.unit, r.seed, r.rows, r.losses.shape, r.losses.tobytes()) for r in rows],
        "metrics": metrics,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.dtype, tuple(value.shape), value.numpy().tobytes()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def contents(folder: Path) -> dict[Path, bytes]:
    """All files below."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def own_model(hidden: int = 7, *, seed: int = 0, inputs: int = 64, outputs: int = 10) -> nn.Sequential:
    """A model as a user would build it for the digits."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(inputs, hidden), Heaviside(), nn.Linear(hidden, outputs))


class Signs(nn.Module):
    """A network of the user's own that no lent derivative gives a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 8), nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.sign(self.first(x.flatten(1))))  # type: ignore[no-any-return]


@contextmanager
def crews_watched(
    policy: PoolPolicy = PoolPolicy(),  # noqa: B008  it is frozen
    see: Callable[[Call, Any], None] | None = None,
) -> Iterator[list[Crew]]:
    """Within: the crews that the small runs assemble, with pools of that policy; ``see`` has a look at every answer."""
    crews: list[Crew] = []

    def watched(task: Task, engine: EngineConfig) -> Crew:
        crew = assemble_crew(task, engine, policy)
        if see is not None:
            pools: list[Any] = [None if p is None else WatchedPool(p, see) for p in (crew.evaluators, crew.generators)]
            crew.evaluators, crew.generators = pools
        crews.append(crew)
        return crew

    _assemble.append(watched)
    try:
        yield crews
    finally:
        _assemble.pop()

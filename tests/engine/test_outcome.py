"""What a run leaves at its end: result.json, the best checkpoint; how it is ended early, and goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scipy import stats
from small_runs import STEPS, digits, own_model, resume_small, train_small

import glr_dist
from glr_dist.core.prediction import clean_accuracy
from glr_dist.engine.callbacks import Progress
from glr_dist.engine.keeping import Best, superfluous
from glr_dist.engine.replay import replay
from glr_dist.engine.verify import verify
from glr_dist.errors import UserError
from glr_dist.models.spec import load_weights
from glr_dist.runs.network import open_network
from glr_dist.runs.result import RESULT
from glr_dist.store.checkpoint import checkpoint_steps, load_checkpoint
from glr_dist.store.metrics import read_metrics
from glr_dist.store.storage import Storage

LONG = {"steps": 60, "validate_every": 5, "checkpoint_every": 20, "optimizer.lr": 0.3, "schedule.name": "constant"}


def said(run: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((run / RESULT).read_text())
    return result


def validations(run: Path) -> dict[int, float]:
    lines = read_metrics(Storage.at(run))
    return {line["step"]: line["validation_accuracy"] for line in lines if "validation_accuracy" in line}


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose last validation is not its best one; not to be written to."""
    run = tmp_path_factory.mktemp("long") / "run"
    train_small(run, LONG, command="glr-dist train digits-threshold --seed 0")
    return run


def test_result_json_has_what_an_independent_count_gives(long: Path) -> None:
    result, data = said(long), digits()
    model = own_model(12)  # the preset's network is built like it, but for the names
    load_weights(model, load_checkpoint(long).weights, "here")
    (x, labels), *_ = data.batches("test", 10_000)
    hits = model(x).argmax(-1) == labels
    assert (result["test"]["right"], result["test"]["n"]) == (int(hits.sum()), len(labels))
    interval = stats.binomtest(int(hits.sum()), len(labels)).proportion_ci(0.95, method="wilson")
    assert (result["test"]["low"], result["test"]["high"]) == pytest.approx((interval.low, interval.high))
    for digit, found in result["test"]["classes"].items():
        mine = labels == int(digit)
        assert (found["right"], found["n"]) == (int(hits[mine].sum()), int(mine.sum()))
    assert result["command"] == "glr-dist train digits-threshold --seed 0"
    assert (result["steps"], result["legs"], result["ended_by"]) == (60, [60], "steps")
    assert result["params_sha256"] == load_checkpoint(long).meta["params_sha256"]
    assert result["data"]["fingerprint"] == data.fingerprint
    assert result["machine"]["cores"] >= 1
    assert {"torch", "python", "numpy", "glr_dist"} <= set(result["versions"])


def test_the_best_checkpoint_stays_and_is_measured(long: Path) -> None:
    found = validations(long)
    best = max(found, key=lambda step: (found[step], -step))
    assert best not in (0, 60), "the run must have a best that is not its last"
    result = said(long)["best"]
    assert (result["step"], result["validation"]["accuracy"]) == (best, found[best])
    assert checkpoint_steps(Storage.at(long)) == sorted({20, 40, 60, best})
    network = open_network(result["checkpoint"])
    again = clean_accuracy(network.model, lambda z, y: z.sum(-1), digits().batches("test", 100))
    assert result["test"]["right"] == sum(again.right)


def test_patience_ends_a_run_and_the_rest_is_what_it_was(long: Path, tmp_path: Path) -> None:
    found, best, waited = validations(long), Best(), 0
    for step, accuracy in found.items():
        waited = 0 if best.see(step, accuracy) else waited + 1
        if waited == 2:
            break
    else:
        pytest.fail("the long run never waits so long")
    result = train_small(tmp_path / "run", LONG | {"patience": 2})
    assert (result.steps, result.ended_by) == (step, "patience")
    assert validations(tmp_path / "run") == {s: a for s, a in found.items() if s <= step}
    assert resume_small(tmp_path / "run").steps == step  # it still is out of patience
    gone_on = resume_small(tmp_path / "run", overrides={"patience": 0})
    assert (gone_on.steps, gone_on.params_sha256) == (60, said(long)["params_sha256"])


def test_few_checkpoints_are_kept_where_few_are_wanted(long: Path, tmp_path: Path) -> None:
    result = train_small(tmp_path / "run", LONG | {"keep": 2, "checkpoint_every": 10})
    best = said(long)["best"]["step"]
    assert checkpoint_steps(Storage.at(tmp_path / "run")) == sorted({50, 60, best})
    assert result.params_sha256 == said(long)["params_sha256"]


@pytest.mark.parametrize(
    ("steps", "how", "going"),
    [
        ([4, 8, 12], {"newest": 12, "best": 4, "former": None, "keep": 0}, []),
        ([4, 8, 12], {"newest": 12, "best": 4, "former": None, "keep": 1}, [8]),
        ([0, 4, 8, 12], {"newest": 12, "best": 12, "former": None, "keep": 1}, [4, 8]),
        ([4, 6, 8], {"newest": 8, "best": 8, "former": 6, "keep": 0}, [6]),
        ([4, 8], {"newest": 8, "best": 8, "former": 6, "keep": 0}, []),
    ],
)
def test_what_goes(steps: list[int], how: dict[str, Any], going: list[int]) -> None:
    assert superfluous(steps, **how) == going


def test_a_finished_run_says_so_and_a_longer_one_goes_on(tmp_path: Path) -> None:
    run, lines = tmp_path / "run", []
    first = train_small(run)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert resume_small(run, say=lines.append) == first
    assert [line for line in lines if "is finished" in line and "--steps N" in line] == lines != []
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    longer = resume_small(run, overrides={"steps": 2 * STEPS})
    assert (longer.steps, said(run)["legs"]) == (2 * STEPS, [STEPS, 2 * STEPS])


def test_a_run_begun_from_anothers_weights_keeps_them(tmp_path: Path) -> None:
    first = train_small(tmp_path / "first")
    second = train_small(tmp_path / "second", {"seed": 1}, init_from=tmp_path / "first")
    assert load_checkpoint(tmp_path / "second/checkpoints/step-000000").meta["params_sha256"] == first.params_sha256
    assert said(tmp_path / "second")["initial"]["params_sha256"] == first.params_sha256
    assert second.params_sha256 != train_small(tmp_path / "fresh", {"seed": 1}).params_sha256
    with pytest.MonkeyPatch.context() as patch:  # it needs the other run no more
        patch.setattr("glr_dist.engine.running.load_checkpoint", None)
        replayed = replay(tmp_path / "second", data=digits())
        assert (replayed.params_sha256, replayed.equal) == (second.params_sha256, True)
        assert replayed.compared[0] == 0
        assert verify(tmp_path / "second", data=digits(), share=0.5).checkpoints[0] == 0
        back = resume_small(tmp_path / "second" / "checkpoints" / "step-000000")
        assert back.params_sha256 == second.params_sha256
        assert said(tmp_path / "second")["initial"]["params_sha256"] == first.params_sha256
    with pytest.raises(UserError, match=r"--init-from: .* is a checkpoint of another model: 1.bias"):
        train_small(tmp_path / "third", {"model.hidden": [3]}, init_from=tmp_path / "first")
    assert not (tmp_path / "third").exists()


def test_callbacks_watch_and_may_end_a_run(tmp_path: Path) -> None:
    seen: list[Any] = []

    class Watching(glr_dist.Callback):
        def on_start(self, run: str, config: glr_dist.Config) -> None:
            seen.append(("start", run, config.steps))

        def on_step(self, progress: Progress) -> bool | None:
            seen.append(("step", progress.step, progress.figures["loss"]))
            return progress.step == 7

        def on_checkpoint(self, checkpoint: str, progress: Progress) -> bool | None:
            assert load_checkpoint(checkpoint).step == progress.step
            seen.append(("checkpoint", progress.step))
            return None

        def on_end(self, result: Any) -> None:
            seen.append(("end", result.ended_by, result.steps))

    result = train_small(tmp_path / "run", callbacks=[Watching()])
    losses = {line["step"]: line["loss"] for line in read_metrics(Storage.at(tmp_path / "run"))}
    steps = [("step", step, losses[step]) for step in range(1, 8)]
    assert seen == [
        ("start", str(tmp_path / "run"), STEPS),
        *steps[:4],
        ("checkpoint", 4),
        *steps[4:],
        ("end", "callback", 7),
    ]
    assert (result.steps, checkpoint_steps(Storage.at(tmp_path / "run"))) == (7, [4, 7])
    resumed = resume_small(tmp_path / "run")
    assert resumed.params_sha256 == train_small(tmp_path / "whole").params_sha256

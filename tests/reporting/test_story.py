"""A run's story, groups of seeds and their curves, against figures worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_runs import train_small
from told_runs import learning, share, told_run

from glr_dist.errors import UserError
from glr_dist.reporting.comparison import as_json, compare
from glr_dist.reporting.figures import run_pictures
from glr_dist.reporting.filters import as_images
from glr_dist.reporting.overview import chosen_rows, rows_of
from glr_dist.reporting.story import differences, grouped, read_stories, read_story, runs_below
from glr_dist.store.storage import Storage


@pytest.fixture
def told(tmp_path: Path) -> list[Path]:
    """Two seeds of one kind, and one run of another scale."""
    return [
        told_run(tmp_path / "runs/wide-0", learning(0.5, 0.7, 0.8), {"steps": 6}),
        told_run(tmp_path / "runs/wide-1", learning(0.7, 0.8, 0.8), {"steps": 6, "seed": 1}),
        told_run(tmp_path / "runs/deep/narrow", learning(0.1), {"steps": 6, "noise.scale": 0.25}),
    ]


def test_seeds_of_one_kind_are_a_group_with_student_s_interval(told: list[Path]) -> None:
    stories = read_stories(told)
    assert differences(stories) == {"seed": [0, 1, 0], "noise.scale": [1.0, 1.0, 0.25]}
    wide, narrow = grouped(stories)
    assert ([wide.name, narrow.name], len(wide.stories)) == (["scale 1", "scale 0.25"], 2)
    curve = wide.curve("validation_accuracy")
    assert curve.steps.tolist() == [2, 4, 6]
    assert curve.mean.tolist() == pytest.approx([0.6, 0.75, 0.8])
    # t of one degree of freedom is 12.706; the standard error of two numbers d apart is d / 2
    assert curve.half is not None
    assert curve.half.tolist() == pytest.approx([12.7062 * 0.1, 12.7062 * 0.05, 0.0], rel=1e-4)
    assert narrow.curve("validation_accuracy").half is None


def test_speed_is_passes_over_seconds(told: list[Path]) -> None:
    steps, rates = read_story(told[0]).rate()
    assert rates.tolist() == pytest.approx([2000.0] * len(steps))
    assert len(steps) == 5


def test_a_curve_is_thinned_by_means_of_neighbours(told: list[Path]) -> None:
    curve = read_stories(told[:1])
    (group,) = grouped(curve)
    thin = group.curve("loss").thinned(3)
    assert thin.steps.tolist() == [1, 3, 5]
    assert thin.mean.tolist() == pytest.approx([(1 + 1 / 2) / 2, (1 / 3 + 1 / 4) / 2, (1 / 5 + 1 / 6) / 2])


def test_groups_that_much_tells_apart_have_what_their_names_share(tmp_path: Path) -> None:
    keys = {"noise.scale": 2.0, "optimizer.lr": 0.1, "estimator.copies": 4}
    runs = [told_run(tmp_path / f"a-{seed}", learning(0.5), {"seed": seed}) for seed in (0, 1)]
    runs.append(told_run(tmp_path / "other", learning(0.5), keys))
    assert [group.name for group in grouped(read_stories(runs))] == ["a", "other"]


def test_tables_say_what_was_found(told: list[Path]) -> None:
    reached = {"ended_by": "steps", "workers": 2, "bytes_up": 600, "bytes_down": 60, "seconds": 3.0}
    reached |= {"noisy_forwards_per_second": 2000.0, "steps": 6}
    told_run(
        told[0].parent / "x",
        learning(0.2),
        {"steps": 6, "noise.scale": 9},
        reached | {"test": share(8, 10, 0.49, 0.94) | {"loss": 0.25}},
    )
    tables = {table.title: table for table in compare(read_stories([*told, told[0].parent / "x"]))}
    assert tables["What differs"].rows == [["seed", "0, 1", "0", "0"], ["noise.scale", "1", "0.25", "9"]]
    came = {row[0]: row[1:] for row in tables["What they came to"].rows}
    assert came["test accuracy (95%)"] == ["-", "-", "80.0% (49.0 to 94.0)"]
    assert came["validation accuracy (95%)"][:2] == ["80.0% (80.0 to 80.0)", "10.0%"]
    assert came["bytes up, a step"] == ["-", "-", "100"]
    assert came["test loss"] == ["-", "-", "0.25"]
    way = next(table for title, table in tables.items() if title.startswith("Validation accuracy on the way"))
    assert way.rows[1][:3] == ["4", "75.0% ± 63.5", "-"]
    found = as_json(read_stories(told))
    assert found["groups"][0]["validation"] == {"mean": 0.8, "low": 0.8, "high": 0.8}


def test_rows_are_sorted_and_filtered(told: list[Path]) -> None:
    lines: list[str] = []
    told_run(told[0].parent / "broken", [])
    (told[0].parent / "broken/config.toml").write_text("steps = 'many'")
    folder = Storage.at(told[0].parent)
    assert len(list(runs_below(folder))) == 4
    rows = rows_of(folder, lines.append)
    assert ["left out" in line and "steps" in line for line in lines] == [True]

    def names(*wanted: str, by: str = "run", most: int = 0) -> list[str]:
        return [row["run"] for row in chosen_rows(rows, wanted, by, most)]

    assert names() == ["narrow", "wide-0", "wide-1"]
    assert names(by="-seed", most=1) == ["wide-1"]
    assert names("validation>0.5") == ["wide-0", "wide-1"]
    assert names("noise.scale=0.25") == ["narrow"]
    assert names("run=wide*", "seed!=0") == ["wide-1"]
    assert names("step<=2") == ["narrow"]
    assert [row["state"] for row in rows] == ["stopped", "finished", "finished"]
    with pytest.raises(UserError, match="--where sede: no such column; did you mean 'seed'"):
        names("sede=1")
    with pytest.raises(UserError, match="--sort tset: no such column; did you mean 'test'"):
        names(by="tset")
    with pytest.raises(UserError, match="--where 'test': write it as COLUMN=VALUE"):
        names("test")


def test_a_real_run_is_told_as_it_says_itself(tmp_path: Path) -> None:
    result = train_small(tmp_path / "run")
    story = read_story(tmp_path / "run")
    found = story.accuracy("test")
    assert found is not None and found["accuracy"] == result.test_accuracy
    assert (story.state, story.steps) == ("finished", 12)
    with pytest.raises(UserError, match="is given twice"):
        read_stories([tmp_path / "run", tmp_path / "run"])


def test_first_layers_are_images_where_inputs_are() -> None:
    weights = np.arange(2 * 12, dtype=np.float32).reshape(2, 12)
    images = as_images(weights, (3, 2, 2))  # channels come first
    assert images is not None
    assert images[0].tolist() == [[4, 5], [6, 7]]  # the means of 0, 4, 8 and so on
    assert as_images(weights, (12,)) is None
    assert as_images(weights, (1, 2, 2)) is None
    kernels = np.ones((5, 3, 2, 2), np.float32)
    assert as_images(kernels, (3, 8, 8)).shape == (5, 2, 2)  # type: ignore[union-attr]


def test_targets_that_are_numbers_are_told_by_their_loss(tmp_path: Path) -> None:
    lines = [{"step": step, "loss": 1.0, "validation_loss": 2.0 / step, "validation_accuracy": None} for step in (1, 2)]
    reached = {"ended_by": "steps", "workers": 0, "bytes_up": 0, "bytes_down": 0, "seconds": 1.0, "steps": 2}
    reached |= {"noisy_forwards_per_second": 1.0}
    for seed, loss in ((0, 0.5), (1, 0.7)):
        test = {"accuracy": None, "n": 4, "loss": loss}
        told_run(tmp_path / f"run-{seed}", lines, {"steps": 2, "seed": seed}, reached | {"test": test})
    stories = read_stories([tmp_path / "run-0", tmp_path / "run-1"])
    came = {row[0]: row[1:] for table in compare(stories) for row in table.rows}
    assert came["test loss"] == ["0.6 ± 1.271"]  # 12.7062 times half the difference
    assert came["test accuracy (95%)"] == ["-"]
    pictures = {picture.name: picture for picture in run_pictures(grouped(stories))}
    assert "from 2 at step 1 to 1 at 2" in pictures["validation-loss"].alt
    assert "validation-accuracy" not in pictures

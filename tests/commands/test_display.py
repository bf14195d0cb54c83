"""Progress on a terminal that is none: plain lines, seldom, the last step always."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from command_line import call

from glr_dist.commands.display import describe, file_size, job_display, progress_display, show_table
from glr_dist.commands.terminal import say
from glr_dist.engine.callbacks import Progress


def progress(step: int, loss: float | None = 0.5) -> Progress:
    return Progress(
        step=step, steps=100, loss=loss, validation=0.875, noisy_forwards_per_second=1.25e6, seconds_left=12.4
    )


def test_a_step_in_words() -> None:
    expected = "loss 0.5000, validation 87.50%, 1.25 million noisy forward passes/s"
    assert describe(progress(1)) == expected
    weak = dataclasses.replace(progress(1), weakest=("features.0", 0.7649))
    assert describe(weak) == expected.replace("1.25", "signal/noise 0.76 (layer features.0), 1.25")
    bare = Progress(step=1, steps=2, loss=None, validation=None, noisy_forwards_per_second=0.0, seconds_left=0.0)
    assert describe(bare) == ""


def test_lines_are_seldom_but_for_the_last(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_display() as show:
        for step in range(1, 101):
            show(progress(step))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("step 100/100: loss 0.5000")
    assert lines[0].endswith("12 s left")


def test_jobs_are_told_at_their_end(capsys: pytest.CaptureFixture[str]) -> None:
    with job_display() as show:
        for done in (1, 2, 3):
            show(done, 3, "fgsm")
    assert capsys.readouterr().err == "3/3 chunks of samples, fgsm; 0 s left\n"


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (2.34e6, "2.3 MB"), (1e13, "10000.0 GB")]
)
def test_sizes_have_units(count: float, said: str) -> None:
    assert file_size(count) == said


def test_nothing_that_is_printed_can_rewrite_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "run\x1b[2J\x1b]0;title\x07\r\u202e\n\x9b31m"
    say(f"{evil} s3://me:pa/ss@bucket/run")
    show_table(evil, {evil: f"{evil} [red]"})
    out, err = capsys.readouterr()
    for text in (out, err):
        assert not set("\x1b\x07\r\u202e\x9b") & set(text)
        assert "\\x1b[2J" in text
    assert err.count("\n") == 1
    assert err.endswith("s3://bucket/run\n")


def test_a_folder_whose_name_is_an_escape_sequence_is_refused_escaped(here: Path) -> None:
    result = call("train", "--resume", "a\x1b[2Jb")
    assert result.exit_code == 2
    assert "a\\x1b[2Jb is not a run" in result.stderr
    assert "\x1b" not in result.output

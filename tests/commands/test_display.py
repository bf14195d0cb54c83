"""Progress on a terminal that is none: plain lines, seldom, the last step always."""

from __future__ import annotations

import dataclasses
import os
import pty
import re
import subprocess
import termios
from contextlib import suppress
from pathlib import Path

import pytest
from command_line import SMALL, call, script

from glr_dist.commands.display import describe, file_size, fitting, job_display, progress_display, show_table
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


@pytest.mark.parametrize(
    ("room", "text"),
    [(80, "loss 0.5, validation 90%, fast"), (29, "loss 0.5, validation 90%"), (12, "loss 0.5"), (4, "loss"), (0, "l")],
)
def test_a_narrow_line_has_what_is_wanted_most(room: int, text: str) -> None:
    assert fitting(["loss 0.5", "validation 90%", "fast"], room) == text


def test_workers_and_retries_are_told() -> None:
    busy = dataclasses.replace(progress(1), workers=3, retries=2)
    assert describe(busy).endswith("passes/s, 3 workers, 2 calls retried")


@pytest.mark.parametrize("width", [60, 140])
def test_step_and_time_are_seen_on_narrow_terminals_and_what_happens_before(width: int, here: Path) -> None:
    seen = b""
    command = script("train", *SMALL, "--steps", "60", "--run-dir", "run")
    parent, child = pty.openpty()
    termios.tcsetwinsize(child, (24, width))
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=child, stdin=child, env=os.environ | {"TERM": "xterm"}
    ) as training:
        os.close(child)
        with suppress(OSError):  # the other end is closed
            while piece := os.read(parent, 65536):
                seen += piece
    os.close(parent)
    assert training.returncode == 0
    frames = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", frame) for frame in re.split(r"[\r\n]+", seen.decode())]
    assert any(re.search(r"\d/60 0:00:0\d loss [0-9.]+", frame) for frame in frames), frames[-4:]
    assert any("opening data and network" in frame for frame in frames)
    assert any(re.search(r"60/60 0:00:0\d measuring", frame) for frame in frames), frames[-4:]
    assert max(map(len, frames)) <= width

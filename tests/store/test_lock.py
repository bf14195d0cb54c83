"""One writer a run, whoever asks: another thread, another process, another machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from glr_dist.errors import UserError
from glr_dist.store.lock import written_alone
from glr_dist.store.places import claimed
from glr_dist.store.storage import Storage

BEAT = 0.05  # seconds


def claim_of(place: Path, **said: object) -> Path:
    """A claim that somebody left or keeps."""
    place.mkdir(exist_ok=True)
    file = place / ".lock-0123"
    file.write_text(json.dumps({"host": "tower", "held": True, "since": "2026-01-02T03:04:05+00:00", **said}))
    return file


def own_marks(place: Path) -> dict[str, object]:
    """What this process says of itself."""
    with written_alone(Storage.at(place)):
        (file,) = place.glob(".lock-*")
        return dict(json.loads(file.read_text()))


def test_a_second_writer_is_told_who_the_first_is(tmp_path: Path) -> None:
    run = Storage.at(tmp_path / "run")
    with written_alone(run):
        assert run.list() == []  # a claim is no part of a run
        refusal = rf"run: process {os.getpid()} on .* writes to it since 20.*; wait until it is done, or stop it"
        with pytest.raises(UserError, match=refusal), written_alone(run):
            pass
    with written_alone(run):
        pass
    assert not (tmp_path / "run").exists()  # nothing came of it


def test_of_many_that_come_at_once_one_writes(tmp_path: Path) -> None:
    run, barrier, release = Storage.at(tmp_path / "run"), threading.Barrier(8), threading.Event()
    inside, refused = [], []

    def come() -> None:
        barrier.wait()
        try:
            with written_alone(run, beat=BEAT):
                inside.append(1)
                release.wait(20)
        except UserError as error:
            refused.append(str(error))
            if len(refused) == 7:
                release.set()

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(inside), len(refused)) == (1, 7)


def test_the_claim_of_a_killed_process_of_this_machine_is_taken_over_at_once(tmp_path: Path) -> None:
    text = (
        "import sys, time\nfrom glr_dist.store.lock import written_alone\nfrom glr_dist.store.storage import Storage\n"
        "with written_alone(Storage.at(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", text, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    run = Storage.at(tmp_path / "run")
    with pytest.raises(UserError, match=rf"process {child.pid} on"), written_alone(run):
        pass
    child.kill()
    time.sleep(0.2)  # dead, though nobody has waited for it
    with written_alone(run):
        assert len(list((tmp_path / "run").iterdir())) == 1
    child.communicate()


def test_another_process_with_the_number_of_a_dead_one_is_not_taken_for_it(tmp_path: Path) -> None:
    marks = own_marks(tmp_path)
    stale = claim_of(tmp_path, machine=marks["machine"], pid=marks["pid"], born="1")
    with written_alone(Storage.at(tmp_path)):
        assert not stale.exists()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"machine": "x", "pid": "?"}'])
def test_the_silent_claim_of_another_machine_is_taken_over_after_a_while(text: str, tmp_path: Path) -> None:
    claim_of(tmp_path).write_text(text)
    told: list[str] = []
    with written_alone(Storage.at(tmp_path), told.append, beat=BEAT):
        assert len(list(tmp_path.iterdir())) == 1
    assert len(told) == 1
    assert "for a sign of life" in told[0]


def test_another_machines_living_claim_is_respected(tmp_path: Path) -> None:
    file = claim_of(tmp_path, machine="another", pid=7, beats=0)
    stop = threading.Event()

    def beat() -> None:
        beats = 0
        while not stop.wait(BEAT):
            beats += 1
            claim_of(tmp_path, machine="another", pid=7, beats=beats)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with (
            pytest.raises(UserError, match="process 7 on tower writes to it since 2026-01-02"),
            written_alone(Storage.at(tmp_path), beat=4 * BEAT),
        ):
            pass
    finally:
        stop.set()
        thread.join()
    assert list(tmp_path.iterdir()) == [file]


def test_who_was_taken_over_is_told(tmp_path: Path) -> None:
    with written_alone(Storage.at(tmp_path), beat=BEAT) as claim:
        claim.check()
        next(tmp_path.glob(".lock-*")).unlink()
        time.sleep(6 * BEAT)
        with pytest.raises(UserError, match="another process took it over"):
            claim.check()


def test_a_place_that_can_not_be_written_to_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with (
        pytest.raises(UserError, match=r"cannot write .*not a directory"),
        written_alone(Storage.at(tmp_path / "file/run")),
    ):
        pass


def test_names_are_claimed_when_they_are_chosen_and_given_up_where_nothing_came_of_them(tmp_path: Path) -> None:
    with ExitStack() as stack:
        names = [stack.enter_context(claimed(str(tmp_path / "runs" / "run"))) for _ in range(5)]
        assert len(set(names)) == 5  # in one second
        assert all(Path(name).is_dir() for name in names)
        (Path(names[2]) / "config.toml").write_text("a run")
    assert [str(place) for place in (tmp_path / "runs").iterdir()] == [names[2]]
    with claimed(str(tmp_path / "others" / "run")):
        pass
    assert not (tmp_path / "others").exists()
    (tmp_path / "file").write_text("mine")
    with (
        pytest.raises(UserError, match=r"--run-dir: cannot make the folder .*file/run"),
        claimed(str(tmp_path / "file" / "run")),
    ):
        pass

"""A whole run on an S3-compatible server: trained, interrupted, resumed, measured, replayed."""

from __future__ import annotations

import dataclasses
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import glr_dist
from glr_dist.config import Config, parse_config
from glr_dist.engine.replay import replay
from glr_dist.errors import UserError
from glr_dist.robustness.measurement import evaluate
from glr_dist.robustness.sample_set import sets_at
from glr_dist.store.checkpoint import checkpoint_steps, load_checkpoint
from glr_dist.store.journal import JournalReader
from glr_dist.store.lock import written_alone
from glr_dist.store.metrics import read_metrics
from glr_dist.store.storage import Storage

STEPS = 6
SECRET = "not/a+secret"


@pytest.fixture(scope="module")
def query() -> Iterator[str]:
    """What a URI says of a server on loopback with one empty bucket, `runs`."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "key-of-this-test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")  # ask nobody but this server
        bucket = urllib.request.Request(f"http://{host}:{port}/runs", method="PUT")
        urllib.request.urlopen(bucket, timeout=10).close()
        yield f"?region=us-east-1&scheme=http&endpoint_override={host}%3A{port}"
    server.stop()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    keys: dict[str, Any] = {
        "steps": STEPS,
        "batch": 32,
        "checkpoint_every": 2,
        "validate_every": 2,
        "model.hidden": [12],
        "estimator.copies": 4,
        "engine.workers": 0,
        "tensorboard": True,
        "data.cache": str(tmp_path_factory.mktemp("cache")),
    }
    return parse_config("", keys)


@pytest.fixture(scope="module")
def local(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run on this machine's disk."""
    folder = tmp_path_factory.mktemp("local") / "run"
    glr_dist.train(config=config, run_dir=folder)
    return folder


def journal(run: Storage) -> list[tuple[Any, ...]]:
    reader = JournalReader(run)
    rows = [row for step in reader.steps() for row in reader.read(step)]
    return [(r.step, r.site, r.unit, r.seed, r.losses.tobytes()) for r in rows]


def test_a_run_on_s3_is_the_run_on_disk(query: str, config: Config, local: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    uri = f"s3://runs/team/one{query}"
    assert glr_dist.train(config=config, run_dir=uri, seconds=1e-9).steps == 1
    result = glr_dist.resume(uri)
    here, there = Storage.at(local), Storage.at(uri)
    assert result.steps == STEPS
    assert result.params_sha256 == load_checkpoint(here).meta["params_sha256"]
    assert there.list() == [
        "checkpoints",
        "config.toml",
        "journal",
        "metrics.jsonl",
        "provenance.json",
        "result.json",
        "tensorboard",
    ]
    assert checkpoint_steps(there) == [1, 2, 4, 6]
    assert journal(there) == journal(here)
    assert [line["loss"] for line in read_metrics(there)] == [line["loss"] for line in read_metrics(here)]
    measured, expected = evaluate(result.checkpoint), evaluate(local)
    assert (measured.accuracy, measured.loss, measured.n) == (expected.accuracy, expected.loss, expected.n)
    again = replay(uri)
    assert (again.compared, again.equal) == ((1, 2, 4, 6), True)
    for name in there.list("tensorboard"):
        (tmp_path / name).write_bytes(there.read(f"tensorboard/{name}"))
    steps = [scalar.step for scalar in EventAccumulator(str(tmp_path)).Reload().Scalars("loss")]
    assert steps == list(range(1, STEPS + 1))


def test_credentials_in_a_uri_open_it_and_are_shown_to_nobody(
    query: str, config: Config, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    uri = f"s3://key-in-the-uri:not%2Fa%2Bsecret@runs/two{query}"
    said: list[str] = []
    results = [glr_dist.train(config=config, run_dir=uri, seconds=1e-9, say=said.append)]
    results += [glr_dist.resume(uri, say=said.append)]
    measured, again = evaluate(uri, say=said.append), replay(uri, say=said.append)
    with pytest.raises(UserError) as taken:
        glr_dist.train(config=config, run_dir=uri)
    with pytest.raises(UserError) as missing:
        evaluate(uri.replace("/two", "/three"))
    with pytest.raises(UserError) as mistyped:
        Storage.at(uri.replace("%2F", "/"))
    texts = [*said, repr(again), *capsys.readouterr()]
    texts += [str(dataclasses.asdict(result)) for result in (*results, measured)]
    texts += [str(error.value) for error in (taken, missing, mistyped)]
    assert [text for text in texts if "key-in-the-uri" in text or "secret" in text] == []
    assert str(measured.checkpoint) == f"s3://runs/two/checkpoints/step-000006{query}"


def test_a_bucket_that_is_not_there_is_named(query: str, config: Config) -> None:
    with pytest.raises(UserError, match=r"s3://nowhere/run.*bucket does not exist"):
        glr_dist.train(config=config, run_dir=f"s3://nowhere/run{query}")
    with pytest.raises(UserError, match=r"s3://nowhere/run.* is not a run"):
        glr_dist.resume(f"s3://nowhere/run{query}")
    with pytest.raises(UserError, match="there is no checkpoint at s3://nowhere/run"):
        evaluate(f"s3://nowhere/run{query}")


def test_a_run_on_s3_has_one_writer(query: str) -> None:
    run = Storage.at(f"s3://runs/held{query}")
    with written_alone(run), pytest.raises(UserError, match="writes to it since"), written_alone(run):
        pass
    assert run.hidden(".lock-") == []


def test_samples_on_a_store_that_does_not_answer_are_not_called_missing_or_damaged() -> None:
    place = "s3://key:password@runs/set?endpoint_override=127.0.0.1:1&scheme=http&region=us-east-1"
    with pytest.raises(UserError, match=r"cannot read s3://runs/set/meta.json.*NETWORK_CONNECTION"):
        sets_at(place)

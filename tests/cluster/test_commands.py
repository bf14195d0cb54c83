"""The commands in the recipes, against the options that glr_dist and the installed Ray really have."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from ray.scripts.scripts import cli as ray_cli
from recipes import KUBERAY, ROOT, all_commands, commands, in_words, load

from glr_dist.cli import main as glr_dist_cli
from glr_dist.config import preset_names

SYMMETRIC_RUN_REFUSES = {"--head", "--node-ip-address", "--port", "--block"}  # from its --help
ALLOWED_ON_RESUME = {"workers", "reconstructors", "gpus_per_worker", "data_root", "seconds", "as_json"}


def parsed(group: click.Command, words: list[str]) -> click.Context:
    """The context of a command line, its options parsed and converted; raises click.UsageError as the program would."""
    context = group.make_context("program", list(words))
    while isinstance(context.command, click.Group):
        rest = [*context._protected_args, *context.args]
        name, command, rest = context.command.resolve_command(context, rest)
        assert command is not None
        context = command.make_context(name, rest, parent=context)
    return context


def check(words: list[str]) -> None:
    """Raise when a command would be refused, or one that it runs."""
    program, *rest = words
    if program == "glr-dist":
        parsed(glr_dist_cli, rest)
    elif program == "train-or-resume":
        run, preset, *options = rest
        assert preset in preset_names() or preset == "1", f"no preset {preset}"
        parsed(glr_dist_cli, ["train", preset, "--run-dir", run, *options])
        again = parsed(glr_dist_cli, ["train", "--resume", run, *options])
        given = {name for name, value in again.params.items() if value not in (None, (), False)}
        assert given - {"resumed"} <= ALLOWED_ON_RESUME
    elif rest[0] == "symmetric-run":
        check_symmetric_run(rest[1:])
    else:
        context = parsed(ray_cli, rest)
        if "cluster_config_file" in context.params:
            assert (ROOT / context.params["cluster_config_file"]).is_file()
        inner = [*commands(context.params.get("cmd") or ""), *in_words(list(context.params.get("entrypoint") or ()))]
        for command in inner:
            check(command)


def check_symmetric_run(rest: list[str]) -> None:
    """Its options, those that it hands on to `ray start`, and the command that it runs on the head."""
    end = rest.index("--")
    own = ray_cli.get_command(click.Context(ray_cli), "symmetric-run")
    start = ray_cli.get_command(click.Context(ray_cli), "start")
    assert own is not None and start is not None
    handed_on = own.make_context("symmetric-run", rest[:end]).params["ray_args_and_entrypoint"]
    assert not SYMMETRIC_RUN_REFUSES & {word.partition("=")[0] for word in handed_on}
    start.make_context("start", ["--head", *handed_on])
    (inner,) = in_words(rest[end + 1 :])
    check(inner)


@pytest.mark.parametrize(("place", "words"), all_commands(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_option_in_the_recipes_exists(
    place: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder with the files that the pages call the reader's own."""
    (tmp_path / "my_net.py").write_text("class Net: ...\n")
    (tmp_path / "my_loss.py").write_text("def hinge(): ...\ndef tolerant(): ...\n")
    (tmp_path / "digits.npz").touch()
    monkeypatch.chdir(tmp_path)
    check(words)


@pytest.mark.parametrize(
    "line",
    [
        "glr-dist train mnist-threshold --no-such-option",
        "glr-dist train --workers many",
        "train-or-resume runs/x no-such-preset",
        "train-or-resume runs/x mnist-threshold --seed 1",
        "ray start --dashboard-hots=127.0.0.1",
        "ray symmetric-run --address a:1 --port 1 -- train-or-resume runs/x mnist-threshold",
        "ray symmetric-run --address a:1 --no-such 1 -- train-or-resume runs/x mnist-threshold",
        "ray symmetric-run --address a:1 -- train-or-resume runs/x no-such-preset",
        "ray exec cluster/launcher/aws.yaml 'train-or-resume runs/x no-such-preset'",
        "ray exec cluster/launcher/no-such-file.yaml 'ray status'",
        "ray job submit --address http://127.0.0.1:8265 -- train-or-resume runs/x no-such-preset",
    ],
)
def test_the_check_above_can_fail(line: str) -> None:
    (words,) = commands(line)
    with pytest.raises((click.UsageError, AssertionError)):
        check(words)


def test_recipes_use_what_this_test_looks_for() -> None:
    used = {tuple(words[:2]) if words[0] != "train-or-resume" else words[0] for _, words in all_commands()}
    expected = {("glr-dist", "train"), "train-or-resume"}
    expected |= {("ray", name) for name in ("start", "stop", "up", "down", "exec", "job", "symmetric-run")}
    assert expected <= used


@pytest.mark.parametrize("group", ["headGroupSpec", "workerGroupSpecs"])
def test_ray_start_params_are_options_of_ray_start(group: str) -> None:
    start = ray_cli.get_command(click.Context(ray_cli), "start")
    assert start is not None
    options = {option for parameter in start.params for option in parameter.opts}
    for path in KUBERAY:
        spec = load(path)["spec"]
        groups = spec.get("rayClusterSpec", spec).get(group, [])
        for part in [groups] if isinstance(groups, dict) else groups:
            assert {f"--{name}" for name in part["rayStartParams"]} <= options

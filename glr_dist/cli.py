"""The command line: the group ``glr-dist`` and its exit codes; the commands live in `glr_dist.commands`.

Exit codes: 0 done, 2 the user's mistake (one line, no traceback), 130 interrupted (after a checkpoint), 1 anything else.
Whatever is slow to import is imported inside the commands, so that ``--help`` is quick.
"""

from __future__ import annotations

import signal
import sys
import traceback
from typing import Any

import click

from glr_dist import __version__
from glr_dist.commands.attack import attack
from glr_dist.commands.certify import certify
from glr_dist.commands.check import check
from glr_dist.commands.compare import compare
from glr_dist.commands.data import data
from glr_dist.commands.evaluate import evaluate
from glr_dist.commands.export import export
from glr_dist.commands.jobs import jobs
from glr_dist.commands.keys import config
from glr_dist.commands.plan import plan
from glr_dist.commands.presets import presets
from glr_dist.commands.replay import replay
from glr_dist.commands.report import report
from glr_dist.commands.runs import runs
from glr_dist.commands.submit import submit
from glr_dist.commands.terminal import INTERRUPTED
from glr_dist.commands.train import train
from glr_dist.commands.tune import tune
from glr_dist.commands.verify import verify
from glr_dist.errors import UserError, own_frames, printable


class _Commands(click.Group):
    """A group whose exceptions become exit codes; a UserError is one line, an unforeseen error keeps its traceback."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        given = args[0] if args else kwargs.get("args")
        try:
            code = super().main(
                *args,
                **({"obj": tuple(sys.argv[1:] if given is None else given)} | kwargs | {"standalone_mode": False}),
            )
        except click.UsageError as error:
            code = error.exit_code
            message = error.format_message()
            click.echo(message if message.startswith("Usage:") else _told(message), err=True)
        except UserError as error:
            code = 2
            click.echo(_told(str(error)), err=True)
            _show_own_frames(error)
        except click.Abort:  # Ctrl-C where no command expects it
            code = INTERRUPTED
        except SystemExit as end:
            if end.code != INTERRUPTED:
                raise
            code = INTERRUPTED
        if code == INTERRUPTED and not args and "args" not in kwargs:  # a process of its own, which is all but over
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.exit(code if isinstance(code, int) else 0)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog='In bash, eval "$(_GLR_DIST_COMPLETE=bash_source glr-dist)" completes presets, methods, attacks and keys; zsh and'
    " fish have a source of their own.",
)
@click.version_option(__version__, prog_name="glr-dist")
def main() -> None:
    """Train networks from loss values alone: threshold units, 0-1 losses, on any number of workers."""


for _command in (
    train,
    tune,
    evaluate,
    attack,
    export,
    certify,
    data,
    presets,
    config,
    plan,
    runs,
    compare,
    report,
    replay,
    verify,
    submit,
    jobs,
    check,
):
    main.add_command(_command)


def _show_own_frames(error: UserError) -> None:
    """Where the user's own code raised what lies behind an error, as Python tells it, without the frames of others."""
    cause = error.__cause__
    for line in traceback.format_list(own_frames(cause)) if cause is not None else ():
        for part in line.splitlines():
            click.echo(printable(part), err=True)


def _told(message: str) -> str:
    return "Error: " + printable(message.replace("\n", " "))


if __name__ == "__main__":
    main()

"""The group ``glr-dist data``: data sets as folders of shards."""

from __future__ import annotations

import shlex

import click

from glr_dist.commands.terminal import tell
from glr_dist.data.config import NAMES
from glr_dist.launch.place import PLACE, Place


@click.group()
def data() -> None:
    """Data sets as folders of Parquet shards."""


@data.command(short_help="Write a data set as Parquet shards.")
@click.argument("source", type=Place(lambda source: "" if source in NAMES else source))
@click.argument("out", type=PLACE)
@click.option(
    "--data-root",
    type=PLACE,
    metavar="DIR",
    default="",
    help="Folder of a named set's files; downloaded when left out.",
)
@click.option("--shards", type=int, default=8, show_default=True, help="Training shards.")
def prepare(source: str, out: str, data_root: str, shards: int) -> None:
    """Write SOURCE (digits, mnist, fashion-mnist, cifar10, or a folder with train/CLASS/IMAGE) as shards in OUT."""
    from glr_dist.commands.display import file_size, show_table
    from glr_dist.data.prepare import prepare as write

    report = write(source, out, root=data_root, shards=shards)
    rows = {
        "examples": "x".join(map(str, report["shape"])),
        "classes": len(report["classes"]),
        **{f"{split} rows": f"{n} in {report['files'][split]} shards" for split, n in report["rows"].items()},
        "size": file_size(report["bytes"]),
        "fingerprint": report["fingerprint"][:12],
    }
    show_table(f"Prepared {report['name']}", rows)
    tell(f"train on it: glr-dist train --set data.name=parquet --data-root {shlex.quote(report['out'])}")

"""The command ``glr-dist evaluate``."""

from __future__ import annotations

import dataclasses

import click

from glr_dist.commands.terminal import absolute, import_from_here, json_line, say


@click.command(short_help="Measure a checkpoint's accuracy and loss.")
@click.argument("checkpoint")
@click.option("--dataset", metavar="NAME", help="digits, mnist, fashion-mnist, cifar10, parquet.  [default: the run's]")
@click.option("--data-root", metavar="DIR", help="Folder of the data.  [default: the run's]")
@click.option("--split", type=click.Choice(["test", "validation", "train"]), default="test", show_default=True)
@click.option("--votes", type=click.IntRange(min=0), default=0, help="Also with noise: the vote of N noisy passes.")
@click.option("--trust-model", is_flag=True, help="Import and run the model.factory that the checkpoint names.")
@click.option("--json", "as_json", is_flag=True, help="End standard output with one JSON object.")
def evaluate(
    checkpoint: str,
    dataset: str | None,
    data_root: str | None,
    split: str,
    votes: int,
    trust_model: bool,
    as_json: bool,
) -> None:
    """Measure CHECKPOINT, a checkpoint's folder or a run's (its newest checkpoint)."""
    import_from_here()
    from glr_dist.commands.summary import evaluation_rows, show_table
    from glr_dist.engine.evaluation import evaluate as measure

    result = measure(
        checkpoint,
        dataset=dataset,
        data_root=None if data_root is None else absolute(data_root),
        split=split,
        votes=votes,
        trust_model=trust_model,
        say=say,
    )
    show_table("Evaluated", evaluation_rows(result), to_stderr=as_json)
    if as_json:
        click.echo(json_line({key: value for key, value in dataclasses.asdict(result).items() if value is not None}))

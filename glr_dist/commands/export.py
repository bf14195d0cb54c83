"""The command ``glr-dist export``; exit code 1 where onnxruntime and the network tell other classes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from glr_dist.commands.options import data_options, json_option
from glr_dist.commands.terminal import say
from glr_dist.launch.place import PLACE


@click.command(short_help="Write a network as ONNX, and its robustness as VNN-LIB properties.")
@click.argument("run", type=PLACE)
@click.option("--onnx", "file", type=click.Path(dir_okay=False), required=True, metavar="FILE", help="The new file.")
@click.option("--vnnlib", "version", type=click.Choice(["1.0", "2.0"]), help="Write properties too, in this version.")
@click.option(
    "--epsilon",
    "epsilons",
    type=float,
    multiple=True,
    help="Radius of the properties, pixels being in [0, 1]; repeatable.",
)
@click.option("--seconds-per-sample", "seconds", type=float, default=60.0, show_default=True, help="To decide each.")
@data_options
@json_option
def export(
    run: str,
    file: str,
    version: str | None,
    epsilons: tuple[float, ...],
    seconds: float,
    dataset: str | None,
    data_root: str | None,
    split: str,
    count: int | None,
    seed: int,
    trust_model: bool,
    as_json: bool,
) -> None:
    """Write the network of RUN, a run or a checkpoint, as an ONNX file, and run it beside the network on all images.

    With --vnnlib and --epsilon there stand beside it a property for each image, instances.csv, and what is known of each
    in verdicts.csv. Needs `pip install "glr-dist[export]"`.
    """
    from glr_dist.commands.display import job_display, show_table
    from glr_dist.errors import UserError
    from glr_dist.robustness.exporting import agreement, write_network, write_properties
    from glr_dist.robustness.selection import Selection
    from glr_dist.runs.network import open_network, read_origin

    if bool(version) != bool(epsilons):
        raise UserError("--vnnlib: properties need a version and a radius; give --vnnlib 2.0 --epsilon 0.1, or neither")
    origin = read_origin(run)
    data = origin.open_data(dataset, data_root, say)
    network = open_network(run, data, trust_model=trust_model)
    write_network(network.model, data.shape, Path(file))
    same, images = agreement(network.model, Path(file), data, split)
    rows: dict[str, Any] = {"network": file, "same class by onnxruntime": f"{same:,} of {images:,} {split} images"}
    told: dict[str, Any] = {"onnx": file, "same": same, "images": images}
    if version is not None:
        selection = Selection(split=split, count=count, seed=seed)
        with job_display() as show:
            found = write_properties(
                network.model,
                data,
                Path(file),
                version=version,
                epsilons=epsilons,
                selection=selection,
                seconds=seconds,
                show=show,
            )
        counts = {verdict: sum(each.verdict == verdict for each in found) for verdict in ("unsat", "sat", "unknown")}
        rows["properties"] = f"{len(found)}, VNN-LIB {version}, beside it"
        rows["verdicts"] = ", ".join(f"{number} {verdict}" for verdict, number in counts.items())
        told["verdicts"] = counts
    show_table("Exported", rows, to_stderr=as_json)
    if as_json:
        click.echo(json.dumps(told))
    if same != images:
        say(
            f"note: {images - same} images have another class in onnxruntime, which adds sums up in another order: a sum of"
            " theirs lies within float32's error of 0, or of another class's"
        )
        sys.exit(1)

"""The command ``glr-dist plan``."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from glr_dist.commands.options import DEFAULT_PRESET, config_overrides, json_option, preset_options, settings_option
from glr_dist.commands.terminal import json_line, say, tell
from glr_dist.errors import UserError

if TYPE_CHECKING:
    from glr_dist.planning.forecast import Forecast, Link, Work

_MOST = 1024  # workers that the table and the picture go to, unless more are asked for
_KINDS = ("png", "svg", "pdf")
_BANDWIDTHS = {"B/s": 1.0, "kB/s": 1e3, "MB/s": 1e6, "GB/s": 1e9, "Mbit/s": 1e6 / 8, "Gbit/s": 1e9 / 8}
_LATENCIES = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_LIMITS = {"bandwidth": (1e3, 1e13), "latency": (1e-9, 60.0)}  # in bytes a second and in seconds: beyond is a slip


@click.command(short_help="What a step would take with more workers.")
@preset_options
@click.option("--workers", type=click.IntRange(min=1), default=16, show_default=True, help="The number to plan for.")
@click.option(
    "--bandwidth", metavar="B", help="Of the driver's link, such as 10Gbit/s or 1GB/s.  [default: this machine's]"
)
@click.option("--latency", metavar="L", help="One way, such as 0.2ms or 50us.  [default: this machine's]")
@click.option(
    "--seconds", type=click.FloatRange(min=0, min_open=True), default=3.0, show_default=True, help="Of measuring."
)
@click.option("--picture", type=click.Path(dir_okay=False), metavar="FILE", help="Draw it: a png, svg or pdf file.")
@settings_option
@json_option
def plan(
    preset: str | None,
    workers: int,
    bandwidth: str | None,
    latency: str | None,
    seconds: float,
    picture: str | None,
    settings: Sequence[str],
    as_json: bool,
    **options: Any,
) -> None:
    """Measure some steps in this process, and tell what they would take with workers: time, bytes, bottleneck."""
    rate = None if bandwidth is None else _value("bandwidth", bandwidth, _BANDWIDTHS)
    delay = None if latency is None else _value("latency", latency, _LATENCIES)
    kind = Path(picture).suffix.lstrip(".") if picture is not None else ""
    if picture is not None and kind not in _KINDS:
        raise UserError(f"--picture {picture}: is none of {', '.join(_KINDS)}; end its name with one of them")
    from glr_dist.config import load_config

    config = load_config(preset or DEFAULT_PRESET, config_overrides(options, settings))
    from glr_dist.planning.calibration import measured_work
    from glr_dist.planning.forecast import Link, best, cheaper_from, counts
    from glr_dist.planning.link import local_link

    if not config.observes:
        raise UserError(
            f"method = {config.method!r}: observes no losses, and gives workers nothing to do; use --method glr"
        )
    work, here = measured_work(config, seconds), local_link()
    link = Link(bandwidth=here.bandwidth if rate is None else rate, latency=here.latency if delay is None else delay)
    most = max(_MOST, workers)
    found = [best(work, link, number) for number in sorted({*counts(most), workers})]
    cheaper = cheaper_from(work, link, most)
    _show(found, work, link, workers, cheaper, as_json)
    if picture is not None:
        from glr_dist.planning.picture import picture as drawing

        Path(picture).write_bytes(drawing(work, link, most, kind))
        say(f"picture: {picture}")
    if as_json:
        steps = [{**dataclasses.asdict(each), "seconds": each.seconds, "bottleneck": each.bottleneck} for each in found]
        told = {"work": dataclasses.asdict(work), "link": dataclasses.asdict(link)}
        click.echo(json_line({**told, "steps": steps, "gradients_are_cheaper_from": cheaper}))


def _show(found: Sequence[Forecast], work: Work, link: Link, workers: int, cheaper: int | None, as_json: bool) -> None:
    from glr_dist.commands.display import file_size, show_columns

    header = (
        "workers",
        "ms a step",
        "times one process",
        "bytes down",
        "bytes up",
        "most of it is",
        "who reconstructs",
    )
    rows = [
        (
            f"{each.workers:,}{' <' if each.workers == workers else ''}",
            f"{1000 * each.seconds:.3g}",
            f"{work.alone / each.seconds:.3g}x",
            file_size(each.down),
            file_size(each.up),
            each.bottleneck,
            each.placement,
        )
        for each in found
    ]
    title = f"A step's forecast, {file_size(link.bandwidth)}/s and {1000 * link.latency:.3g} ms one way"
    show_columns(title, header, rows, to_stderr=as_json)
    tell(
        f"measured here: {1000 * work.evaluation:.3g} ms of evaluation, {1000 * work.reconstruction:.3g} of reconstruction,"
        f" {1000 * work.driver:.3g} of the driver's own; {work.blocks} blocks a step",
        err=as_json,
    )
    tell(
        f"gradients beside the losses take less time than losses alone from {cheaper:,} workers on"
        if cheaper is not None
        else "losses alone always take less time than gradients beside them",
        err=as_json,
    )
    if workers > work.blocks:
        tell(
            f"more than {work.blocks} workers share single blocks: a smaller units.rows would give them more",
            err=as_json,
        )


def _value(name: str, text: str, units: Mapping[str, float]) -> float:
    """A number with its unit, in bytes a second or in seconds.

    Raises:
        UserError: when it is none, or can't be meant.
    """
    match = re.fullmatch(r"\s*([0-9.eE+-]+)\s*([A-Za-z/]+)\s*", text)
    low, high = _LIMITS[name]
    known = {unit.lower(): scale for unit, scale in units.items()}
    example = "10Gbit/s or 1GB/s" if name == "bandwidth" else "0.2ms or 50us"
    try:
        number: Any = float(match[1]) * known[match[2].lower()] if match else math.nan
    except (KeyError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"--{name} {text}: is no number with one of the units {', '.join(units)}; give it as {example}")
    if not low <= number <= high:
        raise UserError(f"--{name} {text}: no network is like that; give it as {example}")
    return float(number)

"""Speed of a training step from losses alone, beside back-propagation and others; `--variance`: what the losses are worth.

All contenders of a network are timed in turn in one run, in one process with one thread.
"""

from __future__ import annotations

import json
import platform
from typing import Any

import click
import torch
from benchmark_contenders import BATCH, CLASSES, INPUTS, measured_on_ray, our_contenders
from benchmark_peers import BACKPROP, backprop_contenders, evotorch_contenders, outer_product_contenders
from benchmark_timing import Contender, markdown, measure

from glr_dist.core.device import exact_on, found_device
from glr_dist.errors import UserError

HIDDEN = (50, 200)


def speeds(hidden: int, seconds: float) -> list[Contender]:
    """In-process contenders for 784-N-10, measured."""
    contenders = backprop_contenders(hidden) + our_contenders(hidden)
    measure(contenders, seconds)
    slow = outer_product_contenders(hidden) + evotorch_contenders(hidden)  # a single step of these is long enough
    measure(slow, seconds, rounds=2)
    return contenders + slow


def speeds_on(device: str, hidden: int, seconds: float) -> list[Contender]:
    """Our contenders for 784-N-10 on a GPU, measured; a UserError where there is none."""
    with exact_on(found_device(device)):
        contenders = our_contenders(hidden, device)
        measure(contenders, seconds)
    return contenders


def as_rows(contenders: list[Contender]) -> list[dict[str, Any]]:
    """A row of the table for each; ratios are to back-propagation's gradient, where that was measured too."""
    base = next((one.gradient_ms for one in contenders if one.name == BACKPROP), None)
    return [
        {
            "way": one.name,
            "gradient, ms": one.gradient_ms,
            "of back-propagation's": one.gradient_ms and base and one.gradient_ms / base,
            "whole step with the loop, ms": one.loop_ms,
            "million passes a second": one.passes_per_second / 1e6,
        }
        for one in contenders
    ]


def machine() -> dict[str, Any]:
    """What the figures hold for."""
    cpu = platform.processor() or platform.machine()
    return {"cpu": cpu, "capability": torch.backends.cpu.get_cpu_capability(), "torch": torch.__version__}


@click.command()
@click.option(
    "--seconds", type=click.FloatRange(min=0), default=0.25, show_default=True, help="Seconds per contender and round."
)
@click.option(
    "--hidden",
    multiple=True,
    type=click.IntRange(min=1),
    default=HIDDEN,
    show_default=True,
    help="Hidden Heaviside units.",
)
@click.option("--ray/--no-ray", "with_ray", default=True, help="Measure Ray evaluators too.")
@click.option(
    "--variance", is_flag=True, help="Measure the estimators' error instead, at equal losses and milliseconds."
)
@click.option(
    "--data-root", envvar="GLR_DIST_DATA", help="With --variance: MNIST's folder; without, other images are used."
)
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="cuda: our ways on a GPU alone.",
)
@click.option("--scaling", is_flag=True, help="Measure presets in large batches instead, with 0, 1, 2, 4 ... workers.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(
    seconds: float,
    hidden: tuple[int, ...],
    with_ray: bool,
    variance: bool,
    data_root: str | None,
    device: str,
    scaling: bool,
    as_json: bool,
) -> None:
    """Measure networks 784-N-10 of Heaviside units, batch 128, in milliseconds that a core worked."""
    torch.set_num_threads(1)
    tables: dict[str, list[dict[str, Any]]] = {}
    if scaling:
        from benchmark_scaling import scaling as scaled

        tables = scaled(max(1.5, seconds), with_ray)
    for width in () if scaling else hidden:
        net = f"{INPUTS}-{width}-{CLASSES}"
        if device != "cpu":
            try:
                tables[f"{net}, batch {BATCH}, {device}"] = as_rows(speeds_on(device, width, seconds))
            except UserError as error:
                raise click.UsageError(str(error)) from error
        elif variance:
            from benchmark_variance import errors

            try:
                tables |= errors(width, data_root)
            except UserError as error:
                raise click.UsageError(str(error)) from error
        else:
            tables[f"{net}, batch {BATCH}"] = as_rows(
                speeds(width, seconds) + (measured_on_ray(width, seconds) if with_ray else [])
            )
    if as_json:
        print(json.dumps({"machine": machine(), "tables": tables}))
        return
    for title, rows in tables.items():
        print(f"{title}\n\n{markdown(rows)}\n")


if __name__ == "__main__":
    main()

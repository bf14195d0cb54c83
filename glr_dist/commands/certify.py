"""The command ``glr-dist certify``; exit code 1 where a certificate does not hold."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from glr_dist.commands.options import data_options, json_option
from glr_dist.commands.terminal import say
from glr_dist.launch.place import PLACE

_SHOWN = 10  # faults told one by one


@click.command(short_help="Write what is proved of every image, or check what was written.")
@click.argument("run", type=PLACE)
@click.option("--out", type=PLACE, metavar="DIR", help="The certificate's new folder, or a URI.")
@click.option("--check", "written", type=PLACE, metavar="DIR", help="Check the certificate there.")
@click.option("--epsilon", type=float, help="Radius, pixels being in [0, 1].  [default: 0.1]")
@click.option("--seconds-per-sample", "seconds", type=float, default=60.0, show_default=True, help="At most.")
@data_options
@json_option
def certify(
    run: str,
    out: str | None,
    written: str | None,
    epsilon: float | None,
    seconds: float,
    dataset: str | None,
    data_root: str | None,
    split: str,
    count: int | None,
    seed: int,
    trust_model: bool,
    as_json: bool,
) -> None:
    """Decide the images of RUN's data within a radius, and write for each the bound, or the adversary, to --out.

    With --check they are checked against the network and the data: bounds of intervals are computed anew, images that took
    the program are solved in another way, and adversaries must fool the network.
    """
    from glr_dist.attacks.ball import finite
    from glr_dist.commands.display import job_display
    from glr_dist.errors import UserError
    from glr_dist.robustness.certificate import certify as write
    from glr_dist.robustness.certificate import check_certificate
    from glr_dist.robustness.selection import Selection
    from glr_dist.runs.network import open_network, read_origin
    from glr_dist.store.storage import Storage

    if bool(out) == bool(written):
        raise UserError("--out: give a new folder to write a certificate to, or one that is there to --check")
    if written and (epsilon is not None or count is not None):
        raise UserError("--check: radius and images are the certificate's; leave --epsilon and --count out")
    radius = 0.1 if epsilon is None else epsilon
    finite("epsilon", radius, " (pixels are in [0, 1])")
    data = read_origin(run).open_data(dataset, data_root, say)
    network = open_network(run, data, trust_model=trust_model)
    faults: list[str] = []
    with job_display() as show:
        if out:
            about = write(
                network.model,
                network.params_sha256,
                data,
                Selection(split=split, count=count, seed=seed),
                radius,
                Storage.at(out),
                seconds=seconds,
                show=show,
            )
        else:
            about, faults = check_certificate(
                network.model, network.params_sha256, data, Storage.at(str(written)), seconds=seconds, show=show
            )
    _show(about, faults, out or str(written), checked=bool(written), as_json=as_json)
    for fault in faults[:_SHOWN]:
        say(fault)
    if faults:
        say(f"Error: {len(faults)} findings; the certificate does not hold")
        sys.exit(1)


def _show(about: dict[str, Any], faults: list[str], place: str, *, checked: bool, as_json: bool) -> None:
    from glr_dist.commands.display import show_table

    data, proved = about["data"], ("intervals", "program")
    rows = {
        "certificate": place,
        "network": f"{about['params_sha256'][:12]}...",
        "images": f"{about['images']:,} of {data['name']}, {data['split']}, within {about['epsilon']:g}",
        **{f"proved by {kind}" if kind in proved else kind: count for kind, count in about["counts"].items()},
    }
    if checked:
        rows["what does not hold"] = len(faults) or "nothing"
    show_table("Checked" if checked else "Certified", rows, to_stderr=as_json)
    if as_json:
        click.echo(json.dumps(about | ({"faults": faults} if checked else {})))

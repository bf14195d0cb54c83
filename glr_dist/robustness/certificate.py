"""Certificates: what is known of every image, written down so that others can check it without believing the prover.

    certificate.json   whose: network, data, radius, counts
    images.csv         index, label, status (robust, broken, undecided), by (intervals, program), bound
    adversaries.safetensors   of the broken images, by index

The bound of a robust image is how far the label leads every other class at least, anywhere in the ball, in logits. A check
takes the network and the data anew: bounds of intervals are computed again in float64, nothing is solved; an image that took
the program is solved again in another way, each class to its end without the rows that made it quick; an adversary must lie
in the ball to the last bit, and fool the network.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load, save
from torch import nn

from glr_dist import __version__
from glr_dist.attacks.exact.intervals import proof_layers, worst_leads
from glr_dist.attacks.exact.network import ball_around, threshold_network
from glr_dist.data.source import DataSource
from glr_dist.errors import UserError
from glr_dist.robustness.selection import Chunk, Selection, chunks, rows_at
from glr_dist.store.storage import Storage

ABOUT, IMAGES, ADVERSARIES = "certificate.json", "images.csv", "adversaries.safetensors"
_COLUMNS = ("index", "label", "status", "by", "bound")
_ROWS = 500  # images of one interval pass
_TOLERANCE = 1e-6  # relative, between two float64 passes
Show = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Line:
    """What is known of an image."""

    index: int
    label: int
    status: str  # robust, broken or undecided
    by: str  # intervals or program; "": neither
    bound: float | None  # of a robust one


def certify(
    model: nn.Module,
    params_sha256: str,
    data: DataSource,
    selection: Selection,
    epsilon: float,
    out: Storage,
    *,
    seconds: float,
    show: Show = lambda done, jobs, last: None,
) -> dict[str, Any]:
    """Decide images and write a certificate; the content of certificate.json.

    Args:
        model: the network.
        params_sha256: of its parameters.
        data: whose images.
        selection: which of them.
        epsilon: radius.
        out: the new folder.
        seconds: at most for each image that intervals leave.
        show: told of the progress.

    Raises:
        UserError: for a folder that holds a certificate already, and a network that nothing can be proved of.
    """
    if out.exists(ABOUT):
        raise UserError(f"--out {out}: holds a certificate already; give another folder")
    lines: list[Line] = []
    adversaries: dict[str, NDArray[np.float32]] = {}
    indices = selection.of(data)
    for chunk in chunks(indices, _ROWS):
        for line, adversary in _decided(model, data, selection.split, chunk, epsilon, seconds):
            lines.append(line)
            if adversary is not None:
                adversaries[str(line.index)] = adversary
        show(len(lines), len(indices), f"within {epsilon:g}")
    about = {
        "params_sha256": params_sha256,
        "data": {"name": data.name, "split": selection.split, "fingerprint": data.fingerprint},
        "epsilon": epsilon,
        "images": len(lines),
        "counts": counts(lines),
        "glr_dist": __version__,
    }
    out.write(IMAGES, _as_csv(lines).encode())
    out.write(ADVERSARIES, save(adversaries))
    out.write(ABOUT, f"{json.dumps(about, indent=1)}\n".encode())
    return about


def counts(lines: Sequence[Line]) -> dict[str, int]:
    """How many images are robust by intervals, and by the program, how many are broken and undecided."""
    kinds = [line.by if line.status == "robust" else line.status for line in lines]
    return {kind: kinds.count(kind) for kind in ("intervals", "program", "broken", "undecided")}


def _decided(
    model: nn.Module, data: DataSource, split: str, chunk: Chunk, epsilon: float, seconds: float
) -> Iterator[tuple[Line, NDArray[np.float32] | None]]:
    from glr_dist.attacks.exact.search import verify  # SciPy's solver takes long to import

    x, labels = rows_at(data, split, chunk.indices)
    leads = worst_leads(proof_layers(model), x, labels, epsilon).amin(1)
    try:
        network = threshold_network(model)
    except UserError:
        network = None  # of more layers than the program knows
    with torch.no_grad():
        wrong = (model(x).argmax(1) != labels).tolist()
    for row, (index, label) in enumerate(zip(chunk.indices.tolist(), labels.tolist(), strict=True)):
        image: NDArray[np.float32] = x[row].numpy()
        if leads[row] > 0:
            yield Line(index, label, "robust", "intervals", float(leads[row])), None
        elif wrong[row]:
            yield Line(index, label, "broken", "", None), image
        elif network is None:
            yield Line(index, label, "undecided", "", None), None
        else:
            verdict = verify(network, image, label, epsilon, seconds=seconds)
            robust = verdict.status == "robust"
            line = Line(index, label, verdict.status, "program" * robust, -verdict.bound if robust else None)
            yield line, verdict.adversary


def check_certificate(
    model: nn.Module,
    params_sha256: str,
    data: DataSource,
    folder: Storage,
    *,
    seconds: float,
    show: Show = lambda done, jobs, last: None,
) -> tuple[dict[str, Any], list[str]]:
    """Check a certificate: the content of certificate.json, and what does not hold.

    Args:
        model: the network.
        params_sha256: of its parameters.
        data: that it was written of.
        folder: the certificate's.
        seconds: at most for each class of an image that took the program.
        show: told of the progress.

    Raises:
        UserError: where there is no certificate, or it is of another network or other data.
    """
    about, lines, adversaries = _read(folder)
    if about["params_sha256"] != params_sha256:
        raise UserError(
            f"--check {folder}: is of a network with parameters {about['params_sha256'][:12]}..., this one has"
            f" {params_sha256[:12]}...; give the run that it was made of"
        )
    if about["data"]["fingerprint"] != data.fingerprint:
        raise UserError(f"--check {folder}: is of other data than {data.name} as it is here; give its --data-root")
    if about["counts"] != counts(lines) or about["images"] != len(lines):
        return about, ["certificate.json and images.csv count otherwise"]
    faults: list[str] = []
    split, epsilon = about["data"]["split"], float(about["epsilon"])
    order = np.array([line.index for line in lines], np.int64)
    if not (np.diff(order) > 0).all():
        return about, ["images.csv: the images are not in their order, or one stands there twice"]
    for chunk in chunks(order, _ROWS):
        part = lines[chunk.start : chunk.start + len(chunk.indices)]
        x, labels = rows_at(data, split, chunk.indices)
        leads = worst_leads(proof_layers(model), x, labels, epsilon).amin(1).tolist()
        for row, line in enumerate(part):
            image: NDArray[np.float32] = x[row].numpy()
            adversary = adversaries.get(str(line.index))
            if line.label != int(labels[row]):
                fault = f"the label is {int(labels[row])}"
            else:
                fault = _fault(model, image, line, leads[row], adversary, epsilon, seconds)
            faults += [f"image {line.index}: {line.status}, but {fault}"] if fault else []
        show(chunk.start + len(part), len(lines), f"within {epsilon:g}")
    return about, faults


def _fault(
    model: nn.Module,
    x: NDArray[np.float32],
    line: Line,
    lead: float,
    adversary: NDArray[np.float32] | None,
    epsilon: float,
    seconds: float,
) -> str:
    """What is wrong with a line; "": nothing."""
    if line.status == "broken":
        return "there is no adversary" if adversary is None else _no_adversary(model, x, line.label, adversary, epsilon)
    if line.status != "robust":
        return ""
    if line.by == "program":
        return _not_proved(model, x, line.label, epsilon, seconds)
    if not lead > 0:
        return f"intervals leave a lead of {lead:g}"
    told = line.bound is not None and abs(line.bound - lead) <= _TOLERANCE * max(1.0, abs(lead))
    return "" if told else f"its bound is {lead:g}, not {line.bound}"


def _no_adversary(
    model: nn.Module, x: NDArray[np.float32], label: int, adversary: NDArray[np.float32], epsilon: float
) -> str:
    ball = ball_around(x.reshape(-1), epsilon, None, 0.0)
    if adversary.shape != x.shape or not ball.holds(adversary.reshape(-1)):
        return "its adversary lies outside the ball"
    with torch.no_grad():
        fooled = int(model(torch.from_numpy(adversary.copy())[None])[0].argmax()) != label
    return "" if fooled else "its adversary is told right"


def _not_proved(model: nn.Module, x: NDArray[np.float32], label: int, epsilon: float, seconds: float) -> str:
    """By a program for each class, solved to its end, without the cliques that the proof leaned on."""
    from glr_dist.attacks.exact.program import class_programs, solve

    network = threshold_network(model)
    ball = ball_around(x.reshape(-1), epsilon, network.input_threshold, 0.0)
    for program in class_programs(network, ball, label, 0.0):
        if program.interval_bound >= -program.lead_slack and solve(program, seconds).bound >= -program.lead_slack:
            return f"class {program.wrong} is not excluded within {seconds:g} s"
    return ""


def _as_csv(lines: Sequence[Line]) -> str:
    text = io.StringIO()
    rows = [(line.index, line.label, line.status, line.by, "" if line.bound is None else line.bound) for line in lines]
    csv.writer(text, lineterminator="\n").writerows([_COLUMNS, *rows])
    return text.getvalue()


def _read(folder: Storage) -> tuple[dict[str, Any], list[Line], dict[str, NDArray[np.float32]]]:
    if not folder.exists(ABOUT):
        raise UserError(f"--check {folder}: holds no {ABOUT}; give a folder that glr-dist certify --out wrote")
    try:
        about = json.loads(folder.read(ABOUT))
        header, *rows = csv.reader(io.StringIO(folder.read(IMAGES).decode()))
        if tuple(header) != _COLUMNS:
            raise ValueError(f"{IMAGES} has columns {header}")
        lines = [Line(int(i), int(label), status, by, float(b) if b else None) for i, label, status, by, b in rows]
        return about, lines, load(folder.read(ADVERSARIES))
    except Exception as error:  # a file that anybody may have written to
        raise UserError(f"--check {folder}: can't be read: {error}") from error

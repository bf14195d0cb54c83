"""Files for verifiers of others: a network as ONNX, its robustness as VNN-LIB properties, and our verdict on each.

    network.onnx      instances.csv      verdicts.csv      properties/*.vnnlib      counterexamples/*.txt

A line of instances.csv is (network, property, seconds), as VNN-COMP has it; one of verdicts.csv (property, verdict,
counterexample): ``unsat`` is proved safe, ``sat`` is broken, by an input that the network itself was asked about, and
``unknown`` is neither.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from glr_dist.attacks.attack import Attack, Attacked, named_attack
from glr_dist.attacks.exact.properties import VERSIONS, counterexample_text, property_text
from glr_dist.core.prediction import EVALUATION_BATCH
from glr_dist.data.source import DataSource
from glr_dist.errors import UserError, check_known
from glr_dist.models.onnx_file import onnx_bytes
from glr_dist.robustness.selection import Selection, chunks, rows_at

PROPERTIES, COUNTEREXAMPLES = "properties", "counterexamples"
Show = Callable[[int, int, str], None]


def write_network(model: nn.Module, shape: Sequence[int], file: Path) -> None:
    """Write a network as ONNX.

    Raises:
        UserError: for a network that can't be told in ONNX, or a file that is there already.
    """
    if file.exists():
        raise UserError(f"--onnx {file}: is there already; give another name")
    content = onnx_bytes(model, shape)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def decider(model: nn.Module, x: Tensor, labels: Tensor, epsilon: float, seconds: float) -> Attack:
    """What proves most of a network: the program where it has one hidden layer of Heaviside units, else intervals."""
    exact = named_attack("exact", epsilon, seconds=seconds)
    try:
        exact.refuse(model, x, labels)
    except UserError:
        bounds = named_attack("intervals", epsilon)
        bounds.refuse(model, x, labels)
        return bounds
    return exact


@dataclass(frozen=True)
class Told:
    """A property and what is known of it."""

    file: str
    verdict: str  # unsat, sat or unknown
    counterexample: str  # its file; "": there is none


def write_properties(
    model: nn.Module,
    data: DataSource,
    network: Path,
    *,
    version: str,
    epsilons: Sequence[float],
    selection: Selection,
    seconds: float,
    show: Show = lambda done, jobs, last: None,
) -> list[Told]:
    """Write a property for each image and radius beside a network's file, and decide each.

    Args:
        model: the network.
        data: whose images.
        network: its ONNX file, which is there.
        version: of VNN-LIB, 1.0 or 2.0.
        epsilons: radii.
        selection: which images.
        seconds: at most for each of them.
        show: told of the progress.

    Raises:
        UserError: for an unknown version, and for a network that nothing can be proved of.
    """
    check_known("--vnnlib", version, VERSIONS)
    folder, found = network.parent, []
    every = list(chunks(selection.of(data)))
    for epsilon in epsilons:
        for chunk in every:
            x, labels = rows_at(data, selection.split, chunk.indices)
            attack = decider(model, x, labels, epsilon, seconds)
            decided = attack.run(model, x, labels, np.random.SeedSequence(0))
            for row, index in enumerate(chunk.indices.tolist()):
                stem = f"{selection.split}-{index}-eps-{epsilon:g}"
                about = f"{data.name}, {selection.split} image {index}, class {int(labels[row])}, within {epsilon:g}"
                text = property_text(version, x[row].numpy(), int(labels[row]), epsilon, len(data.classes), about)
                _write(folder / PROPERTIES / f"{stem}.vnnlib", text)
                found.append(_told(model, folder, stem, decided, row))
            show(len(found), len(every) * len(epsilons), attack.name)
    lines = [[network.name, told.file, f"{seconds:g}"] for told in found]
    _write(folder / "instances.csv", _csv(lines))
    _write(folder / "verdicts.csv", _csv([[told.file, told.verdict, told.counterexample] for told in found]))
    return found


def _told(model: nn.Module, folder: Path, stem: str, decided: Attacked, row: int) -> Told:
    assert decided.safe is not None and decided.undecided is not None
    file, example = f"{PROPERTIES}/{stem}.vnnlib", f"{COUNTEREXAMPLES}/{stem}.txt"
    if decided.safe[row]:
        return Told(file, "unsat", "")
    if decided.undecided[row]:
        return Told(file, "unknown", "")
    with torch.no_grad():
        logits = model(decided.x[row : row + 1])[0]
    _write(folder / example, counterexample_text(decided.x[row].numpy(), logits.numpy()))
    return Told(file, "sat", example)


def agreement(model: nn.Module, file: Path, data: DataSource, split: str) -> tuple[int, int]:
    """On how many of a split's images an ONNX file, run by onnxruntime, and the network tell the same class; of how many.

    Raises:
        UserError: without the package onnxruntime.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError('--onnx: the check needs onnxruntime; pip install "glr-dist[export]"') from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    same, count = 0, 0
    with torch.no_grad():
        for x, _ in data.batches(split, EVALUATION_BATCH):
            (theirs,) = session.run(None, {"X": x.numpy()})
            same += int((theirs.argmax(1) == model(x).argmax(1).numpy()).sum())
            count += len(x)
    return same, count


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def _csv(lines: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()

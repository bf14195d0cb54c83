"""Checkpoints: `checkpoints/step-000500/` with weights.safetensors, training.pt and meta.json.

meta.json holds the size and SHA-256 of the two others and of itself, so that one flipped bit anywhere is
found before anything is decoded. No pickle runs code: weights are safetensors, training state is loaded with
`weights_only=True`.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from glr_dist.errors import UserError, first_line
from glr_dist.store.local import SMALL_BYTES
from glr_dist.store.storage import Storage
from glr_dist.store.training_file import load_training

FOLDER = "checkpoints"
WEIGHTS, TRAINING, META = "weights.safetensors", "training.pt", "meta.json"
FORMAT = 1
OWN_KEYS = ("format", "step", "written", "files", "weights", "params_sha256", "sha256")
_NAME = re.compile(r"step-(\d{6,})")


class CheckpointError(UserError):
    """A checkpoint that is missing, cut short, damaged, or none at all."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint in memory, its tensors on the CPU.

    Attributes:
        path: the folder it came from, as a path or URI that opens it again.
        step: optimizer steps done.
        weights: the model's state_dict, in its order.
        training: optimizer and schedule state_dicts; empty where they were left alone.
        meta: all of meta.json.
    """

    path: str
    step: int
    weights: dict[str, Tensor]
    training: dict[str, Any]
    meta: dict[str, Any]

    @property
    def place(self) -> str:
        """The path or URI for people to read: without a password."""
        return str(Storage.at(self.path))


def params_sha256(state: Mapping[str, Tensor]) -> str:
    """SHA-256 (hex) of a network's numbers: the float32 bytes of its tensors, in the mapping's order.

    Floating-point buffers (a running mean, thresholds that nobody trains) count like parameters: they too decide what
    the network computes. Integer buffers and the tensors' names do not; other floating-point widths are converted.
    """
    digest = hashlib.sha256()
    for tensor in state.values():
        if tensor.is_floating_point():
            digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()


def begun_steps(run: Storage) -> list[int]:
    """The steps that have a checkpoint, complete or not, sorted."""
    return sorted(int(match[1]) for match in map(_NAME.fullmatch, run.list(FOLDER)) if match)


def checkpoint_steps(run: Storage) -> list[int]:
    """The steps that have a complete checkpoint (all three files are there), sorted."""
    return [step for step in begun_steps(run) if {WEIGHTS, TRAINING, META} <= set(run.list(_path(step)))]


def save_checkpoint(
    run: Storage, *, step: int, weights: Mapping[str, Tensor], training: Mapping[str, Any], meta: Mapping[str, Any]
) -> str:
    """Write a `Checkpoint`, whole or not at all; the same one twice is written once. Returns its path or URI.

    `training` holds tensors, numbers, strings, lists, dicts; `meta` is what else to keep, as JSON.

    Raises:
        TypeError: `training` holds something that `torch.load(weights_only=True)` would refuse.
        UserError: the disk is full, or the run's folder may not be written.
    """
    clash = {key for key in meta if key in OWN_KEYS and (key, meta[key]) != ("step", step)}
    assert not clash, f"meta uses reserved keys: {clash}"
    # Clones: safetensors refuses tied tensors, and a view would drag its whole storage along.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}
    files = {WEIGHTS: safetensors.torch.save(tensors), TRAINING: _training_bytes(training)}
    about = dict(json.loads(json.dumps(dict(meta), allow_nan=False)))
    about |= {"format": FORMAT, "step": step, "weights": list(weights), "params_sha256": params_sha256(tensors)}
    about["files"] = {name: {"bytes": len(data), "sha256": _sha256(data)} for name, data in files.items()}
    folder = run.folder(_path(step))
    run.clean(FOLDER)
    if not _holds(folder, about):
        about["written"] = datetime.now(UTC).isoformat(timespec="seconds")
        about["sha256"] = _own_sha256(about)
        run.write_folder(_path(step), files | {META: _rendered(about)})
    return folder.uri


def drop_checkpoints(run: Storage, after: int) -> None:
    """Delete the checkpoints, complete or not, of steps after ``after``, the newest first."""
    for step in reversed(begun_steps(run)):
        if step > after:
            drop_checkpoint(run, step)


def drop_checkpoint(run: Storage, step: int) -> None:
    """Delete a step's checkpoint, complete or not; none is fine."""
    run.delete(_path(step))


def load_checkpoint(place: str | Path | Storage, *, training: bool = True) -> Checkpoint:
    """Read a checkpoint, in a run's folder the newest complete one, after verifying every file's SHA-256.

    Without ``training``, its training state, which no evaluation needs, is not looked at.

    Raises:
        CheckpointError: there is none, it is cut short or damaged (the message names the file and the newest
            sound checkpoint before it), or it is of a newer format.
    """
    storage = place if isinstance(place, Storage) else Storage.at(place)
    folder = _find(storage)
    try:
        meta, files = _verified(folder, (WEIGHTS, TRAINING) if training else (WEIGHTS,))
        return _decoded(folder, meta, files)
    except CheckpointError as error:
        before = _sound_before(folder)
        offer = f"use the one before it: {before}" if before else "no sound checkpoint lies before it"
        raise CheckpointError(f"{error}; {offer}") from error


def _path(step: int) -> str:
    return f"{FOLDER}/step-{step:06d}"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _rendered(meta: Mapping[str, Any]) -> bytes:
    """The one way to write meta.json: a file that differs from it by any byte is damaged."""
    return (json.dumps(meta, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()


def _own_sha256(meta: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in meta.items() if key != "sha256"}
    return _sha256(json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())


def _training_bytes(training: Mapping[str, Any]) -> bytes:
    """Serialise, and make sure now that it can be read back then."""
    buffer = io.BytesIO()
    torch.save(dict(training), buffer)
    try:
        torch.load(io.BytesIO(buffer.getvalue()), weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise TypeError(f"training state must be tensors and plain values: {first_line(error)[:200]}") from error
    return buffer.getvalue()


def _holds(folder: Storage, about: Mapping[str, Any]) -> bool:
    """Whether a sound checkpoint that says the same is already there."""
    try:
        meta, _ = _verified(folder)
    except CheckpointError:
        return False
    return {key: value for key, value in meta.items() if key not in ("written", "sha256")} == about


def _find(storage: Storage) -> Storage:
    """The checkpoint folder that a path means."""
    if storage.exists(META) or _NAME.fullmatch(storage.name):
        if not storage.exists(""):
            raise CheckpointError(f"there is no checkpoint at {storage}{_others(storage)}")
        return storage
    steps = checkpoint_steps(storage)
    if steps:
        return storage.folder(_path(steps[-1]))
    if storage.exists(FOLDER) or storage.exists("config.toml"):
        raise CheckpointError(f"the run {storage} has no complete checkpoint yet")
    if storage.exists(""):
        raise CheckpointError(f"{storage} is not a checkpoint: give a run's folder or one of its {FOLDER}/step-N")
    raise CheckpointError(f"there is no checkpoint at {storage}: nothing has this name")


def _others(folder: Storage) -> str:
    """What else the run has, for somebody who mistook the step."""
    if folder.parent().name != FOLDER:
        return ""
    steps = checkpoint_steps(folder.parent().parent())
    return f": the run has steps {', '.join(map(str, steps[-5:]))}" if steps else ""


def _sound_before(folder: Storage) -> str | None:
    """The newest checkpoint of the same run before this one whose files are all as they were written."""
    match = _NAME.fullmatch(folder.name)
    if match is None or folder.parent().name != FOLDER:
        return None
    run = folder.parent().parent()
    for step in reversed([step for step in checkpoint_steps(run) if step < int(match[1])]):
        with suppress(CheckpointError):
            _verified(run.folder(_path(step)))
            return str(run.folder(_path(step)))
    return None


def _read(folder: Storage, name: str, most: int) -> bytes:
    try:
        return folder.read(name, most)
    except FileNotFoundError as error:
        raise CheckpointError(f"the checkpoint {folder} is not complete: {name} is missing") from error


def _verified(folder: Storage, names: Sequence[str] = (WEIGHTS, TRAINING)) -> tuple[dict[str, Any], dict[str, bytes]]:
    """meta.json and some files' bytes, all hashes checked, nothing decoded but JSON."""
    meta = _verified_meta(folder, _read(folder, META, SMALL_BYTES))
    files = {}
    for name in names:
        size = meta["files"][name]["bytes"]
        files[name] = _read(folder, name, size)
        found = len(files[name])
        if found < size:
            raise CheckpointError(f"the checkpoint {folder} is cut short: {name} has {found} of {size} bytes")
        if _sha256(files[name]) != meta["files"][name]["sha256"]:
            raise CheckpointError(f"the checkpoint {folder} is damaged: {name} does not match its SHA-256 in {META}")
    return meta, files


def _verified_meta(folder: Storage, data: bytes) -> dict[str, Any]:
    meta: Any = None
    sound = False
    with suppress(ValueError, RecursionError):
        meta = json.loads(data)
        sound = isinstance(meta, dict) and _rendered(meta) == data and meta.get("sha256") == _own_sha256(meta)
    if not sound:
        state = "cut short" if not data.endswith(b"}\n") else "damaged"
        raise CheckpointError(f"the checkpoint {folder} is {state}: {META} does not match its own SHA-256")
    if (found := meta.get("format")) != FORMAT:
        raise CheckpointError(f"the checkpoint {folder} has format {found!r}; this version reads format {FORMAT}")
    for key, kind in (("step", int), ("weights", list), ("params_sha256", str), ("files", dict)):
        if type(meta.get(key)) is not kind:
            raise CheckpointError(f"the checkpoint {folder} is damaged: {META} has {key} = {meta.get(key)!r}")
    match = _NAME.fullmatch(folder.name)
    if meta["step"] < 0 or (match and int(match[1]) != meta["step"]):
        raise CheckpointError(
            f"the checkpoint {folder} says that it is of step {meta['step']}: it was renamed or changed"
        )
    for name in (WEIGHTS, TRAINING):
        about = meta["files"].get(name)
        if not isinstance(about, dict) or type(about.get("bytes")) is not int or type(about.get("sha256")) is not str:
            raise CheckpointError(f"the checkpoint {folder} is damaged: {META} says nothing of {name}")
    return dict(meta)


def _decoded(folder: Storage, meta: dict[str, Any], files: Mapping[str, bytes]) -> Checkpoint:
    try:
        loaded = safetensors.torch.load(files[WEIGHTS])
        weights = {name: loaded[name] for name in meta["weights"]}  # the file has them in an order of its own
    except (SafetensorError, KeyError, TypeError) as error:
        raise CheckpointError(f"the checkpoint {folder} is damaged: {WEIGHTS}: {first_line(error)[:200]}") from error
    try:
        training = load_training(files[TRAINING]) if TRAINING in files else {}
    except Exception as error:  # the hashes are right, so somebody made this file: it may raise anything
        problem = "holds more than tensors and plain values, and was not loaded"
        raise CheckpointError(f"the checkpoint {folder} is not safe: {TRAINING} {problem}") from error
    if params_sha256(weights) != meta["params_sha256"]:
        raise CheckpointError(f"the checkpoint {folder} is damaged: {WEIGHTS} does not match params_sha256 in {META}")
    return Checkpoint(path=folder.uri, step=meta["step"], weights=weights, training=training, meta=meta)

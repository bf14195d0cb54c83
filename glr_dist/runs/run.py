"""A run's folder: made once, never over another, opened again to resume, replay or evaluate.

In it: config.toml  provenance.json  code/  metrics.jsonl  journal/  checkpoints/step-000500/  report/
"""

from __future__ import annotations

import json
import re
import secrets
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glr_dist.config import Config, config_toml, parse_config
from glr_dist.errors import UserError
from glr_dist.runs.card import RunCard
from glr_dist.runs.code import FOLDER as CODE
from glr_dist.runs.code import kept_code
from glr_dist.runs.record import changes, config_sha256, fixed_values
from glr_dist.store import checkpoint as checkpoints
from glr_dist.store.checkpoint import Checkpoint, CheckpointError, checkpoint_steps, drop_checkpoints, load_checkpoint
from glr_dist.store.evaluations import truncate_evaluations
from glr_dist.store.journal import JournalError, truncate_journal
from glr_dist.store.journal_file import FOLDER as JOURNAL
from glr_dist.store.journal_file import list_blocks
from glr_dist.store.local import SMALL_BYTES
from glr_dist.store.metrics import truncate_metrics
from glr_dist.store.signature import Signer
from glr_dist.store.storage import Storage

CONFIG = "config.toml"
PROVENANCE = "provenance.json"  # in the run's folder from its first moment on


@dataclass(frozen=True)
class RunStore:
    """One run on disk."""

    folder: Storage

    def __str__(self) -> str:
        return str(self.folder)

    @classmethod
    def create(
        cls,
        place: str | Path,
        config: Config,
        card: RunCard,
        *,
        signed: bool = False,
        code: Mapping[str, bytes] | None = None,
    ) -> RunStore:
        """Make a run's folder, a local path or URI, with what the run is made of in it.

        ``signed``: its journal will be; ``code``: files of the user's own code, by their place below code/.

        Raises:
            UserError: something is there already, or nothing can be written there.
        """
        folder = Storage.at(place)
        if not _claimed(folder):
            raise UserError(_taken(folder))
        try:
            folder.write(CONFIG, config_toml(config).encode())
            for name, content in (code or {}).items():
                folder.write(f"{CODE}/{name}", content)
            folder.write(
                PROVENANCE, _provenance({"id": secrets.token_hex(16), "signed": signed, **card.as_json()}, config)
            )
        except UserError:
            folder.delete(CONFIG)
            raise
        return cls(folder)

    @classmethod
    def at(cls, place: str | Path) -> tuple[RunStore, int | None]:
        """The run whose folder, or a checkpoint's of it, is at a local path or URI; and the checkpoint's step, or None.

        Raises:
            UserError: there is no run, or no checkpoint with such a name.
        """
        run, name = _run_of(Storage.at(place))
        match = re.fullmatch(r"step-(\d{6,})", name)
        if name and match is None:
            raise CheckpointError(f"there is no checkpoint at {run}/{checkpoints.FOLDER}/{name}: none has such a name")
        run._text()
        return run, int(match[1]) if match else None

    def config(self, overrides: Mapping[str, Any] | None = None) -> Config:
        """The run's config, with some keys replaced.

        Raises:
            UserError: when it is damaged, or a key can't be.
        """
        return parse_config(self._text(), overrides, source=f"{self}/{CONFIG}")

    def remember(self, config: Config) -> None:
        """Write down a config that says anew where data or surrogate lie, or that goes on for more steps."""
        self.folder.write(CONFIG, config_toml(config).encode())
        if self.folder.exists(PROVENANCE):
            said = self._provenance() | {"config_sha256": config_sha256(config)}
            self.folder.write(PROVENANCE, _provenance(said, config))

    def changes(self, config: Config) -> list[str]:
        """Where the config that was read is not what was recorded when the run began, nor an extension: a line a key."""
        recorded = self._provenance().get("config") if self.folder.exists(PROVENANCE) else None
        return changes(recorded, config) if isinstance(recorded, dict) else []

    def card(self) -> RunCard | None:
        """What the run is made of: from its first moment on, or, where that is lost, as its newest sound checkpoint says.

        Raises:
            UserError: when what was written is damaged.
        """
        if not self.folder.exists(PROVENANCE):
            newest = self.newest_sound()
            return None if newest is None else RunCard.read(newest.meta, newest.place)
        return RunCard.read(self._provenance(), str(self.folder.folder(PROVENANCE)))

    def code(self, card: RunCard | None = None) -> Path | None:
        """The local folder with the run's copy of the user's own code, as its card, or a checkpoint's, has it; None: none.

        Raises:
            UserError: a file of it was changed.
        """
        card = card or self.card()
        return kept_code(self.folder, card.code) if card is not None else None

    def signer(self, key: str | Path | None, *, writes: bool) -> Signer | None:
        """Who signs the run's journal, with the key in a file; None where nobody does, or only reads it without the key.

        Raises:
            UserError: there is no such key, the run was begun without one, or it is needed to write.
        """
        said = self._provenance() if self.folder.exists(PROVENANCE) else {}
        if key is None:
            if writes and said.get("signed"):
                raise UserError(f"{self}: its journal is signed; give the key it was begun with (--journal-key FILE)")
            return None
        if not said.get("signed"):
            raise UserError(
                f"--journal-key {key}: the journal of {self} is not signed: it was begun without; leave it out"
            )
        return Signer.read(key, str(said.get("id")))

    def steps(self) -> list[int]:
        """The steps that have a complete checkpoint, sorted."""
        return checkpoint_steps(self.folder)

    def begun(self) -> list[int]:
        """The steps that have a checkpoint, complete or not, sorted."""
        return checkpoints.begun_steps(self.folder)

    def checkpoint(self, step: int) -> Checkpoint:
        """A step's checkpoint.

        Raises:
            CheckpointError: there is none, or it is damaged.
        """
        return load_checkpoint(self.folder.folder(f"{checkpoints.FOLDER}/step-{step:06d}"))

    def newest(self) -> Checkpoint | None:
        """The newest complete checkpoint; None where none was begun.

        Raises:
            CheckpointError: it is damaged, or what is there of checkpoints is not complete.
        """
        return load_checkpoint(self.folder) if self.folder.list(checkpoints.FOLDER) else None

    def newest_sound(self, until: int | None = None) -> Checkpoint | None:
        """The newest checkpoint that is as it was written, at step ``until`` or before; None: there is none."""
        for step in reversed(self.steps()):
            if until is None or step <= until:
                try:
                    return self.checkpoint(step)
                except CheckpointError:
                    continue
        return None

    def rewind(self, step: int, signer: Signer | None = None, most: int | None = None) -> None:
        """Drop what the run wrote after a step, once what stays has proved sound; nobody may be writing to the run.

        ``signer``: who signs its journal; ``most``: bytes of memory that a file of it may take.

        Raises:
            JournalError: a journal file up to there is damaged or missing; names it, and the newest checkpoint before
                it, from which the run can be resumed. Nothing is dropped then.
        """
        sound, damage = _sound_until(self.folder, step)
        if damage is not None:
            before = self.newest_sound(sound)
            offer = (
                f"use the checkpoint before it: --resume {before.place}" if before else "no checkpoint lies before it"
            )
            whole = self.folder.folder(JOURNAL)
            raise JournalError(f"{damage}; {offer}, or delete {whole} to go on without a whole journal")
        drop_checkpoints(self.folder, step)
        truncate_journal(self.folder, step, signer, most)
        truncate_metrics(self.folder, step)
        truncate_evaluations(self.folder, step)

    def _provenance(self) -> dict[str, Any]:
        """All that provenance.json says."""
        data = self.folder.read(PROVENANCE, SMALL_BYTES)
        try:
            said = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{self.folder.folder(PROVENANCE)} is damaged: {error}") from error
        if not isinstance(said, dict):
            raise UserError(f"{self.folder.folder(PROVENANCE)} is damaged: it holds no table")
        return said

    def _text(self) -> str:
        """The config's TOML."""
        try:
            return self.folder.read(CONFIG, SMALL_BYTES).decode()
        except FileNotFoundError as error:
            state = f"it has no {CONFIG}" if self.folder.exists("") else "there is no such folder"
            raise UserError(f"{self} is not a run: {state}") from error
        except UnicodeDecodeError as error:
            raise UserError(f"{self.folder.folder(CONFIG)} is damaged: it is not UTF-8 text") from error


def _provenance(card: Mapping[str, Any], config: Config) -> bytes:
    return json.dumps({**card, "config": fixed_values(config)}, indent=1).encode()


def refuse_taken(place: str | Path) -> None:
    """Refuse a place for a new run where something is already; `RunStore.create` does so too, but later."""
    folder = Storage.at(place)
    if _occupied(folder):
        raise UserError(_taken(folder))


def resume_line(place: str | Path) -> str:
    """How to go on with an interrupted run, whose folder, or checkpoint to go back to, the user gave like that."""
    run, name = _run_of(Storage.at(place))
    if not run.folder.exists(CONFIG):
        return "interrupted before the run began: there is nothing to resume"
    typed = place if run.folder.local and not name else run  # never a password
    return f"interrupted; continue with: glr-dist train --resume {shlex.quote(str(typed))}"


def _run_of(storage: Storage) -> tuple[RunStore, str]:
    """The run that a folder means, and the name of its checkpoint that it means; "": none."""
    if storage.parent().name == checkpoints.FOLDER:
        return RunStore(storage.parent().parent()), storage.name
    return RunStore(storage), ""


def _taken(folder: Storage) -> str:
    return f"--run-dir {folder} exists and is not empty: choose another, or continue it with --resume"


def _occupied(folder: Storage) -> bool:
    return bool(folder.list()) or (folder.local and folder.path("").is_file())


def _claimed(folder: Storage) -> bool:
    """Whether the folder is ours: it was empty, and of two that start at once this one came first."""
    with folder.explained("", "write"):
        if _occupied(folder):
            return False
        if folder.local:
            folder.path("").mkdir(parents=True, exist_ok=True)
            try:
                folder.path(CONFIG).open("xb").close()
            except FileExistsError:
                return False
    return True


def _sound_until(folder: Storage, step: int) -> tuple[int, str | None]:
    """The last step whose losses, and all before them, are as they were written; and what is wrong after it."""
    blocks = [block for block in list_blocks(folder) if block.first <= step]
    sound = blocks[0].first - 1 if blocks else step  # a journal that was thrown away as a whole is no damage
    for block in blocks:
        if block.first > sound + 1:
            return sound, f"the journal of {folder} lacks steps {sound + 1} to {block.first - 1}"
        place = folder.folder(f"{JOURNAL}/{block.name}")
        try:
            whole = block.matches(folder.read(f"{JOURNAL}/{block.name}"))
        except FileNotFoundError:
            return sound, f"the journal file {place} is gone, or a link to what is not there"
        if not whole:
            return sound, f"the journal file {place} is damaged or cut short: its SHA-256 is not the one in its name"
        sound = block.last
    return sound, f"the journal of {folder} lacks steps {sound + 1} to {step}" if sound < step else None

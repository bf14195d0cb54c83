"""Going back to a checkpoint: what the run wrote after it is dropped, once what stays has proved sound."""

from __future__ import annotations

from glr_dist.engine.async_evaluation import forget_evaluations
from glr_dist.store.journal_file import FOLDER, list_blocks
from glr_dist.store.checkpoint import CheckpointError, checkpoint_steps, drop_checkpoints, load_checkpoint
from glr_dist.store.journal import JournalError, truncate_journal
from glr_dist.store.metrics import truncate_metrics
from glr_dist.store.storage import Storage


def rewind(run: Storage, step: int) -> None:
    """Drop what a run wrote after ``step``.

    Args:
        run: the run's folder; nobody may be writing to it.
        step: the last one to keep.

    Raises:
        JournalError: a journal file up to there is damaged or missing; names it, and the newest checkpoint before it,
            from which the run can be resumed. Nothing is dropped then.
    """
    sound, damage = _sound_until(run, step)
    if damage is not None:
        checkpoint = _checkpoint_until(run, sound)
        offer = f"use the checkpoint before it: --resume {checkpoint}" if checkpoint else "no checkpoint lies before it"
        raise JournalError(f"{damage}; {offer}, or delete {run.folder(FOLDER)} to go on without a whole journal")
    drop_checkpoints(run, step)
    truncate_journal(run, step)
    truncate_metrics(run, step)
    forget_evaluations(run, step)


def _sound_until(run: Storage, step: int) -> tuple[int, str | None]:
    """The last step whose losses, and all before them, are as they were written; and what is wrong after it."""
    blocks = [block for block in list_blocks(run) if block.first <= step]
    sound = blocks[0].first - 1 if blocks else step  # a journal that was thrown away as a whole is no damage
    for block in blocks:
        if block.first > sound + 1:
            return sound, f"the journal of {run} lacks steps {sound + 1} to {block.first - 1}"
        if not block.matches(run.read(f"{FOLDER}/{block.name}")):
            place = run.folder(f"{FOLDER}/{block.name}")
            return sound, f"the journal file {place} is damaged or cut short: its SHA-256 is not the one in its name"
        sound = block.last
    return sound, f"the journal of {run} lacks steps {sound + 1} to {step}" if sound < step else None


def _checkpoint_until(run: Storage, step: int) -> str | None:
    """The newest sound checkpoint at ``step`` or before."""
    for candidate in reversed([known for known in checkpoint_steps(run) if known <= step]):
        try:
            return load_checkpoint(run.folder(f"checkpoints/step-{candidate:06d}")).place
        except CheckpointError:
            continue
    return None

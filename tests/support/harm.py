"""What may befall the run of the fixture ``own``, whose last checkpoint is of step 20."""

from __future__ import annotations

import shutil
from pathlib import Path


def cut_short(run: Path) -> None:
    file = run / "checkpoints" / "step-000020" / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def lacks_a_file(run: Path) -> None:
    (run / "checkpoints" / "step-000020" / "training.pt").write_bytes(b"")


def no_checkpoint(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")


def no_whole_checkpoint(run: Path) -> None:
    for file in run.glob("checkpoints/*/meta.json"):
        file.unlink()

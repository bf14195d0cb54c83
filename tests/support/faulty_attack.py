"""FGSM whose worker dies or dawdles the first times; actors of the tests import it as well."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from glr_dist.attacks.ascent import Fgsm
from glr_dist.attacks.attack import Attacked
from glr_dist.attacks.ball import Logits


@dataclass(frozen=True, kw_only=True)
class FaultyFgsm(Fgsm):
    """FGSM, but for its name.

    Attributes:
        folder: where it notes its first calls, or "": it has no faults.
        times: of its calls have a fault.
        sleep: seconds that these take; 0: they kill their process.
    """

    name = "faulty"

    folder: str = ""
    times: int = 1
    sleep: float = 0.0

    def settings(self) -> dict[str, Any]:
        """None that change what it finds."""
        return {}

    def run(self, logits: Logits, x: Tensor, labels: Tensor, seed: np.random.SeedSequence) -> Attacked:
        """As FGSM, sooner or later."""
        if self.folder:
            before = len(list(Path(self.folder).iterdir()))
            if before < self.times:
                Path(self.folder, f"{before}-{os.getpid()}").touch()
                if not self.sleep:
                    os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(self.sleep)
        return super().run(logits, x, labels, seed)

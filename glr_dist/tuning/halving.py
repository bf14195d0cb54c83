"""Asynchronous successive halving: many short trials, and longer ones of what did best in them.

Li, Jamieson, Rostamizadeh, Gonina, Ben-tzur, Hardt, Recht and Talwalkar, 2020, "A system for massively parallel
hyperparameter tuning". A longer trial starts from the beginning, since its learning rate falls more slowly.
"""

from __future__ import annotations

from collections.abc import Sequence

from glr_dist.tuning.trials import Trial

FACTOR = 3  # one trial in so many goes on, for so many times the time
_MOST_RUNGS = 4
_LEAST_STEPS = 50  # of the shortest trials
_FINALISTS = 2  # that the longest trials are planned for, beside the config as it was given
_ALONE = 5  # trials where there is time for one length only


def trial_lengths(seconds: float, step: float, steps: int, workers: int = 1) -> tuple[float, ...]:
    """Seconds of training of a trial on each rung, the shortest first; all are of CPU time.

    Args:
        seconds: for all trials.
        step: seconds that a step takes.
        steps: of the whole run; no trial is longer.
        workers: trials at once.
    """
    for rungs in range(_MOST_RUNGS, 0, -1):
        finalists = _FINALISTS if rungs > 1 else _ALONE
        longest = min(workers * seconds / (rungs * finalists + 1), seconds / 3, steps * step)
        lengths = tuple(longest / FACTOR ** (rungs - 1 - rung) for rung in range(rungs))
        if lengths[0] >= _LEAST_STEPS * step:
            break
    return lengths


class Halving:
    """Says which trial is next, one after the other. Trial 0 is the config as it was given: it has the longest training."""

    def __init__(self, lengths: Sequence[float], configs: int) -> None:
        """Plan trials of these lengths in seconds, the shortest first, of so many configs at most."""
        self.lengths, self._configs = lengths, configs
        self._trials: list[Trial] = []
        self._planned = self._spent = 0.0  # seconds of those that came to an end: their lengths, and what they took

    def tell(self, trial: Trial, seconds: float) -> None:
        """A trial is done, after so many wall-clock seconds in all."""
        self._trials.append(trial)
        if not trial.fault:
            self._planned += self.lengths[trial.rung]
            self._spent += seconds

    def next(self, left: float) -> tuple[int, int] | None:
        """Number and rung of the next trial when so many wall-clock seconds are left; None: none could end and matter."""
        top = len(self.lengths) - 1
        if not self._trials:
            return 0, top
        number, rung = self._promoted() or (max(trial.number for trial in self._trials) + 1, 0)
        enough = number >= self._configs  # there are no others to try
        finalists = {trial.number for trial in self._trials if trial.rung == top} - {0}
        if enough or (rung < top and left < self._takes(rung) + self._takes(top)):
            # the last chance of what has done best so far
            best = max(self._waiting(), key=lambda trial: (trial.rung, trial.score), default=None)
            if best and self._takes(top) <= left and not (enough and len(finalists) >= _FINALISTS):
                return best.number, top
            if enough or finalists:
                return None
        return (number, rung) if self._takes(rung) <= left else None

    def _takes(self, rung: int) -> float:
        """Wall-clock seconds of a trial, as far as the others show."""
        return self.lengths[rung] * (max(1.0, self._spent / self._planned) if self._planned else 1.0)

    def _waiting(self) -> list[Trial]:
        """The longest trial of everybody who could train longer."""
        last = {trial.number: trial for trial in sorted(self._trials, key=lambda trial: trial.rung)}
        return [trial for trial in last.values() if not trial.fault and trial.rung < len(self.lengths) - 1]

    def _promoted(self) -> tuple[int, int] | None:
        """Who is among the best of a rung, and on which rung it goes on; the highest rung first."""
        waiting = self._waiting()
        for rung in range(len(self.lengths) - 2, -1, -1):
            there = sorted((t for t in self._trials if t.rung == rung), key=lambda trial: trial.score, reverse=True)
            for trial in there[: len(there) // FACTOR]:
                if trial in waiting:
                    return trial.number, rung + 1
        return None


def chosen(trials: Sequence[Trial]) -> Trial | None:
    """The best of the longest trials, or the config as given if none is better; None: no trial came to an accuracy."""
    done = [trial for trial in trials if not trial.fault]
    highest = max((trial.rung for trial in done if trial.number), default=0)
    return max(
        (trial for trial in done if trial.rung == highest or trial.number == 0),
        key=lambda trial: (trial.score, -trial.number),
        default=None,
    )

"""Successive halving, told what trials came to by a rule that is known; the clock is made up too."""

from __future__ import annotations

import pytest

from glr_dist.tuning.halving import Halving, chosen, trial_lengths
from glr_dist.tuning.trials import LATE, Trial


def trial(number: int, rung: int, accuracy: float | None, fault: str = "") -> Trial:
    return Trial(number=number, rung=rung, values={}, accuracy=accuracy, loss=1.0, fault=fault)


def search(quality: dict[int, float], lengths: tuple[float, ...], seconds: float, configs: int = 100) -> list[Trial]:
    """All trials of a search in which config n reaches quality[n], and a tenth less for each rung that is missing."""
    halving, done, left = Halving(lengths, configs), [], seconds
    while (chance := halving.next(left)) is not None:
        number, rung = chance
        done.append(trial(number, rung, quality.get(number, 0.5) - 0.1 * (len(lengths) - 1 - rung)))
        halving.tell(done[-1], lengths[rung])
        left -= lengths[rung]
        assert left >= 0
    return done


def test_the_lengths_grow_by_three_and_fit_the_time() -> None:
    lengths = trial_lengths(60.0, 0.007, 10_000)
    assert lengths == pytest.approx([lengths[-1] / 9, lengths[-1] / 3, lengths[-1]])
    assert lengths[0] >= 50 * 0.007
    assert lengths[-1] == pytest.approx(60 / 7)  # two finalists on each of three rungs, and the config as it was given


def test_no_trial_is_longer_than_the_run_and_short_times_have_one_length() -> None:
    assert trial_lengths(3600.0, 0.01, 2000)[-1] == pytest.approx(20.0)
    assert trial_lengths(3.0, 0.1, 2000) == (0.5,)
    assert trial_lengths(100.0, 0.01, 10_000, workers=8)[-1] == pytest.approx(100 / 3)  # rungs come one after the other


def test_the_best_config_is_found_and_the_time_is_used() -> None:
    quality = {0: 0.8, **{number: 0.4 + number * 7 % 10 / 25 for number in range(1, 100)}, 7: 0.95}
    done = search(quality, (1.0, 3.0, 9.0), 64.0)
    assert (done[0].number, done[0].rung) == (0, 2)  # as it was given: the longest at once
    best = chosen(done)
    assert best is not None
    assert (best.number, best.rung) == (7, 2)
    assert sum((1.0, 3.0, 9.0)[one.rung] for one in done) > 64.0 - 9.0
    each = [(one.number, one.rung) for one in done]
    assert len(set(each)) == len(each)  # nothing twice
    of_rung = [sum(rung == wanted and number > 0 for number, rung in each) for wanted in range(3)]
    assert of_rung[0] > of_rung[1] > of_rung[2] > 0


def test_so_many_configs_at_most_then_the_best_of_them_train_longer() -> None:
    done = search({number: number / 10 for number in range(5)}, (1.0, 3.0), 1000.0, configs=5)
    each = [(one.number, one.rung) for one in done]
    assert each == [(0, 1), (1, 0), (2, 0), (3, 0), (3, 1), (4, 0), (4, 1)]
    assert search({}, (1.0,), 1000.0, configs=3) == [trial(number, 0, 0.5) for number in range(3)]


def test_without_time_for_a_longest_trial_shorter_ones_decide() -> None:
    done = search({2: 0.9}, (1.0, 3.0, 9.0), 9.0 + 3.5)
    assert [(one.number, one.rung) for one in done] == [(0, 2), (1, 0), (2, 0), (3, 0)]
    assert chosen(done) == done[2]


def test_trials_with_a_fault_go_nowhere_and_late_ones_are_not_chosen() -> None:
    halving = Halving((1.0, 3.0), 100)
    for number, rung in ((0, 1), (1, 0), (2, 0), (3, 0)):
        assert halving.next(100.0) == (number, rung)
        halving.tell(trial(number, rung, None, "the gradient is not finite"), 0.1)
    assert halving.next(100.0) == (4, 0)
    assert chosen([trial(0, 1, None, LATE)]) is None


def test_what_is_given_is_kept_unless_a_trial_beats_it() -> None:
    trials = [trial(0, 2, 0.9), trial(1, 0, 0.95), trial(1, 1, 0.85), trial(2, 1, 0.88)]
    assert chosen(trials) == trials[0]
    assert chosen([*trials, trial(2, 2, 0.91)]) == trial(2, 2, 0.91)
    assert chosen([trials[0], trial(2, 2, 0.9)]) == trials[0]  # a tie

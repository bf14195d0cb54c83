"""The door: networks x attacks x sizes x surrogates x corruptions, measured sample by sample.

    data = open_data("runs/one")
    attacks = [BpdaPgd(epsilon=0.1)]
    findings = evaluate_robustness(open_subjects(["runs/one"], data), data, attacks=attacks)
    write_report(Storage.at("report"), findings)

The work is cut into fixed chunks, each with a seed of its own, and done in this process or by Ray actors; who does it, and
who dies on the way, changes nothing but the seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from glr_dist.attacks.attack import Attack
from glr_dist.corruptions.corruption import known_corruption
from glr_dist.data.source import DataSource
from glr_dist.errors import UserError
from glr_dist.robustness.bench import Answer, Bench
from glr_dist.robustness.findings import Findings
from glr_dist.robustness.gathering import gathered
from glr_dist.robustness.jobs import Show, Staff, work
from glr_dist.robustness.probes import Clean, Corrupted, Direct, Probe, Stored, Transferred
from glr_dist.robustness.sample_set import SampleSet, open_set, sets_at
from glr_dist.robustness.selection import Indices, Selection, chunks
from glr_dist.robustness.subjects import Subject, refuse_votes
from glr_dist.runs.network import read_origin
from glr_dist.seeds import Purpose, permutation
from glr_dist.store.storage import Storage
from glr_dist.workers.pool import Call, PoolPolicy

_SHOWN = 8  # samples for people to look at, of each attack


def open_data(
    place: str | Path,
    dataset: str | None = None,
    data_root: str | None = None,
    *,
    trust_model: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> DataSource:
    """The data that a checkpoint (or a run's newest) was trained on, or another set; see `Origin.open_data`."""
    quiet = dataset is None  # `open_subject` says what is to be said of the run's own
    data = read_origin(place).open_data(
        dataset, data_root, (lambda line: None) if quiet else say, trust_model=trust_model
    )
    if data.numbers:
        raise UserError(f"{place}: its targets are numbers; attacks, corruptions and reports are for classes")
    return data


def evaluate_robustness(
    subjects: Sequence[Subject],
    data: DataSource,
    *,
    attacks: Sequence[Attack] = (),
    surrogates: Sequence[Subject] = (),
    samples: Sequence[str] = (),
    corruptions: Sequence[str] = (),
    selection: Selection = Selection(),  # noqa: B008  it is frozen
    votes: int = 0,
    seed: int = 0,
    workers: int = 0,
    generators: int = 1,
    policy: PoolPolicy = PoolPolicy(),  # noqa: B008
    say: Callable[[str], None] = lambda line: None,
    show: Show = lambda done, jobs, last: None,
) -> Findings:
    """Measure networks on clean, attacked and corrupted samples.

    Args:
        subjects: the networks under test, from `open_subjects`.
        data: what they see.
        attacks: what is tried; each at its size.
        surrogates: networks on which attacks make their samples that follow the gradient of a surrogate; none: on each
            network under test itself.
        samples: folders of stored sets.
        corruptions: by name; each in all five severities.
        selection: which samples. Its count left out, stored sets say which.
        votes: noisy passes per prediction; 0: predictions without noise.
        seed: of everything random but the selection.
        workers: evaluation actors; 0: all happens in this process, without Ray. Ray must be up otherwise.
        generators: generation actors beside them.
        policy: how patient their pools are with them.
        say: told what the reader of the result should know.
        show: told of the progress.

    Raises:
        UserError: when something doesn't fit; before any work is done, where that can be seen then.
        RuntimeError: when actors die faster than they answer.
    """
    _refuse_unfit(subjects, attacks, surrogates, corruptions, votes)
    places = dict.fromkeys(place for given in samples for place in sets_at(given))
    sets = [open_set(place, data, selection.split) for place in places]
    indices = _selected(selection, data, sets)
    bench = Bench(
        subjects=subjects,
        surrogates=surrogates,
        data=data,
        split=selection.split,
        sets=sets,
        votes=votes,
        seed=seed,
        shown=indices[np.sort(permutation(len(indices), seed, Purpose.SHOWN)[:_SHOWN])],  # not by success
    )
    attacked = _attack_probes(bench, attacks, indices, say)
    _warn_of_itself(bench, say)
    probes = [Clean(), *attacked, *map(Stored, range(len(sets))), *map(Corrupted, corruptions)]
    answers = _answers(bench, list(dict.fromkeys(probes)), indices, Staff(generators, workers, policy), show)
    return gathered(bench, answers, indices, _about(data, selection, len(indices), bool(sets)))


def _refuse_unfit(
    subjects: Sequence[Subject],
    attacks: Sequence[Attack],
    surrogates: Sequence[Subject],
    corruptions: Sequence[str],
    votes: int,
) -> None:
    """Refuse what can't be evaluated, naming the option."""
    if not subjects:
        raise UserError("CHECKPOINT: give at least one")
    for attack in attacks:
        attack.check()
        if attack.noise == "single" and not votes:
            raise UserError(f"--attack {attack.name}: is for predictions with noise; give --votes")
        if attack.noise == "none" and votes:
            raise UserError(f"--attack {attack.name}: is for predictions without noise; leave --votes out")
    if surrogates and not any(attack.knowledge == "gradient" for attack in attacks):
        raise UserError("--surrogate: is for attacks that follow its gradient; give --attack fgsm or --attack pgd")
    for name in corruptions:
        known_corruption(name)
    if votes < 0:
        raise UserError(f"--votes {votes}: must be 0 or more")
    for subject in subjects if votes else ():
        refuse_votes(subject.method, subject.checkpoint)


def _attack_probes(
    bench: Bench, attacks: Sequence[Attack], indices: Indices, say: Callable[[str], None]
) -> list[Probe]:
    """Each attack on each surrogate, if it can be made there, or on each network itself."""
    found: list[Probe] = []
    able: dict[str, list[int]] = {}
    for attack in attacks:
        transfers = attack.knowledge == "gradient" and bool(bench.surrogates)
        if attack.name not in able:  # asked once for all sizes
            networks = bench.surrogates if transfers else bench.subjects
            able[attack.name] = bench.attackable(attack, networks, indices, say)
        found += [Transferred(n, attack) if transfers else Direct(n, attack) for n in able[attack.name]]
    return found


def _answers(
    bench: Bench, probes: Sequence[Probe], indices: Indices, staff: Staff, show: Show
) -> dict[Probe, list[Answer]]:
    """The answers to each probe, chunk by chunk."""
    jobs = [(number, chunk) for number, probe in enumerate(probes) for chunk in chunks(indices, probe.chunk)]
    calls = [
        Call(key, "examine", job, source=Call(key, "samples", job) if probes[job[0]].apart else None)
        for key, job in enumerate(jobs)
    ]
    answers: dict[Probe, list[Answer]] = {}
    for call, answer in work(bench, probes, calls, staff, show):
        answers.setdefault(probes[call.arguments[0]], []).append(answer)
    return answers


def _selected(selection: Selection, data: DataSource, sets: Sequence[SampleSet]) -> Indices:
    """The samples to look at, all of which must be in the stored sets."""
    indices = selection.of(data)
    if not sets:
        return indices
    if selection.count is None:
        indices = reduce(np.intersect1d, (stored.indices for stored in sets))
        if not len(indices):
            raise UserError("--samples: the sets have no sample in common; evaluate them one by one")
    for stored in sets:
        lacking = len(np.setdiff1d(indices, stored.indices))
        if lacking:
            raise UserError(
                f"--samples {Storage.at(stored.uri)}: lacks {lacking} of the {len(indices)} selected samples;"
                " leave --count out to take what it holds"
            )
    return indices


def _warn_of_itself(bench: Bench, say: Callable[[str], None]) -> None:
    surrogates = [*(surrogate.about for surrogate in bench.surrogates), *(s.meta["surrogate"] for s in bench.sets)]
    places = {surrogate["sha256"]: surrogate["checkpoint"] for surrogate in surrogates}
    for subject in bench.subjects:
        if subject.sha256 in places:
            say(
                f"warning: the surrogate {places[subject.sha256]} has the very parameters of {subject.checkpoint}:"
                " on it that attack is white-box, not transfer"
            )


def _about(data: DataSource, selection: Selection, count: int, stored: bool) -> dict[str, Any]:
    """What a report says of the data."""
    rows = data.count(selection.split)
    how = f", by seed {selection.seed}" if selection.count else ", those of the stored sets" if stored else ""
    return {
        "name": data.name,
        "split": selection.split,
        "fingerprint": data.fingerprint,
        "shape": list(data.shape),
        "classes": len(data.classes),
        "selected": f"{count} of {rows}{how}",
    }

"""The door: networks x attacks x sizes x surrogates x corruptions, measured sample by sample.

    data = open_data("runs/one")
    attacks = [named_attack("bpda-pgd", epsilon=0.1)]
    findings = evaluate_robustness(open_subjects(["runs/one"], data), data, attacks=attacks)
    write_report(Storage.at("report"), findings)

The work is cut into fixed chunks, each with a seed of its own, and done in this process or by Ray actors; who does it, and
who dies on the way, changes nothing but the seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import reduce
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from glr_dist import __version__
from glr_dist.attacks.attack import Attack
from glr_dist.data.source import DataSource
from glr_dist.errors import UserError
from glr_dist.robustness.crew import Show, crew_of, describe
from glr_dist.robustness.examination import Answer, Examiner
from glr_dist.robustness.findings import Findings
from glr_dist.robustness.gathering import gathered, shown_samples
from glr_dist.robustness.generation import Generator, Order, Writer, Written
from glr_dist.robustness.plan import jobs_of, plan_lines, refuse_unfit, refuse_without_gradient
from glr_dist.robustness.sample_set import SampleSet, finish, open_set, refuse_taken
from glr_dist.robustness.selection import Indices, Selection
from glr_dist.robustness.subjects import Subject
from glr_dist.runs.network import read_origin
from glr_dist.store.storage import Storage


def open_data(place: str | Path, dataset: str | None = None, data_root: str | None = None) -> DataSource:
    """The data that a checkpoint was trained on, or another set cut and shown in the same way.

    Args:
        place: a checkpoint's folder, or a run's.
        dataset: a data set's name; None: what it was trained on.
        data_root: the data's folder; None: the run's.

    Raises:
        UserError: when there is no sound checkpoint, or there are no such data.
    """
    return read_origin(place).open_data(dataset, data_root)


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
    say: Callable[[str], None] = lambda line: None,
    show: Show = lambda done, jobs, last: None,
) -> Findings:
    """Measure networks on clean, attacked and corrupted samples.

    Args:
        subjects: the networks under test, from `open_subjects`.
        data: what they see.
        attacks: what is tried; each at its size.
        surrogates: networks on which ``fgsm`` and ``pgd`` make their samples; none: on each network under test itself.
        samples: folders of stored sets.
        corruptions: by name; each in all five severities.
        selection: which samples. Its count left out, stored sets say which.
        votes: noisy passes per prediction; 0: predictions without noise.
        seed: of everything random but the selection.
        workers: evaluation actors; 0: all happens in this process, without Ray. Ray must be up otherwise.
        generators: generation actors beside them.
        say: told what the reader of the result should know.
        show: told of the progress.

    Raises:
        UserError: when something doesn't fit; before any work is done, where that can be seen then.
    """
    refuse_unfit(subjects, attacks, surrogates, corruptions, votes)
    sets = [open_set(place, data, selection.split) for place in dict.fromkeys(samples)]
    indices = _selected(selection, data, sets)
    gradient = any(attack.knowledge == "gradient" for attack in attacks)
    refuse_without_gradient((surrogates or subjects) if gradient else (), data, selection.split, indices)
    _warn_of_itself(subjects, [*(s.about for s in surrogates), *(s.meta["surrogate"] for s in sets)], say)
    lines = plan_lines(subjects, attacks, surrogates, sets, corruptions, say)
    jobs = list(jobs_of(lines, indices))
    examiner = Examiner(
        subjects=subjects,
        data=data,
        split=selection.split,
        sets=sets,
        votes=votes,
        seed=seed,
        shown=indices[shown_samples(len(indices), seed)],
    )
    generator = Generator(surrogates, data, selection.split, seed)
    makers = generators if any(isinstance(line, Order) for line in lines) else 0
    answers: list[Answer | None] = [None] * len(jobs)
    with crew_of(generator, examiner, generators=makers, workers=min(workers, len(jobs)), cpus=(0, 1)) as crew:
        for done, (job, answer) in enumerate(crew.run(jobs), 1):
            answers[job.number] = answer
            show(done, len(jobs), describe(job))
    return gathered(examiner, surrogates, jobs, answers, indices, _about(data, selection, len(indices), bool(sets)))


def attack_set(
    surrogate: Subject,
    data: DataSource,
    attack: Attack,
    out: str,
    *,
    selection: Selection = Selection(),  # noqa: B008  it is frozen
    seed: int = 0,
    workers: int = 0,
    say: Callable[[str], None] = lambda line: None,
    show: Show = lambda done, jobs, last: None,
) -> dict[str, Any]:
    """Make adversarial samples on a surrogate and store them.

    Args:
        surrogate: the network to make them on.
        data: the clean samples.
        attack: how.
        out: the set's new folder, or a URI.
        selection: which samples.
        seed: of everything random but the selection.
        workers: generation actors, beside one that writes; 0: all happens in this process.
        say: told when something needs a look.
        show: told of the progress.

    Returns:
        The content of the set's meta.json.

    Raises:
        UserError: when something doesn't fit, or the folder holds something else.
    """
    attack.check()
    if not attack.stored:
        raise UserError(f"--attack {attack.name}: makes no set of samples; give it to `glr-dist evaluate`")
    indices = selection.of(data)
    folder = Storage.at(out)
    request = _request(surrogate, data, attack, selection, seed, len(indices))
    refuse_taken(folder, request)
    refuse_without_gradient([surrogate] if attack.knowledge == "gradient" else [], data, selection.split, indices)
    jobs = list(jobs_of([Order(0, attack)], indices))
    written: list[Written | None] = [None] * len(jobs)
    generator = Generator([surrogate], data, selection.split, seed)
    makers, writers = min(workers, len(jobs)), min(workers, 1)
    with crew_of(generator, Writer(folder.uri), generators=makers, workers=writers, cpus=(1, 0)) as crew:
        for done, (job, answer) in enumerate(crew.run(jobs), 1):
            written[job.number] = answer
            show(done, len(jobs), describe(job))
    meta = request | _result([part for part in written if part is not None])
    finish(folder, meta)
    if meta["without_gradient"]:
        say(f"warning: {meta['without_gradient']} of {len(indices)} samples had no gradient, and stay as they were")
    return meta


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


def _warn_of_itself(
    subjects: Sequence[Subject], surrogates: Sequence[dict[str, Any]], say: Callable[[str], None]
) -> None:
    for subject in subjects:
        for surrogate in {about["sha256"]: about for about in surrogates}.values():
            if surrogate["sha256"] == subject.sha256:
                say(
                    f"warning: the surrogate {surrogate['checkpoint']} has the very parameters of {subject.checkpoint}:"
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


def _request(
    surrogate: Subject, data: DataSource, attack: Attack, selection: Selection, seed: int, count: int
) -> dict[str, Any]:
    """What defines a set of samples."""
    return {
        "attack": {"name": attack.name, "epsilon": attack.epsilon, **attack.settings()},
        "norm": "L-infinity",
        "eps": attack.epsilon,
        "surrogate": surrogate.about,
        "data": {
            "name": data.name,
            "fingerprint": data.fingerprint,
            "split": selection.split,
            "rows": list(data.sizes(selection.split)),
        },
        "shape": list(data.shape),
        "selection": asdict(selection),
        "seed": seed,
        "count": count,
        "versions": {
            "glr_dist": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "pyarrow": metadata.version("pyarrow"),
        },
    }


def _result(written: Sequence[Written]) -> dict[str, Any]:
    """What came of it."""
    counts = ("right_before", "right_after", "fooled", "without_gradient")
    return {
        **{name: sum(getattr(part, name) for part in written) for name in counts},
        "queries": sum(part.queries for part in written) / sum(part.file["rows"] for part in written),
        "files": [part.file for part in written],
    }

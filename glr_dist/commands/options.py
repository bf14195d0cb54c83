"""The options of all commands, each declared once: what describes a run, samples, an attack, a cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from glr_dist.commands.completion import complete_losses, complete_presets, complete_settings
from glr_dist.core.config import LOSSES
from glr_dist.data.config import NAMES
from glr_dist.errors import UserError
from glr_dist.launch.place import KEPT_PLACE, PLACE, Code, Config, Data, Place
from glr_dist.store.places import dated

if TYPE_CHECKING:
    from glr_dist.attacks.attack import Attack

DEFAULT_PRESET = "digits-threshold"
_DEFAULT_EPSILON = 0.1
_FLAGS = {"seconds": "seconds-per-sample"}  # that are not their setting's name
_START_SECONDS = 10.0  # for CPUs that are just coming free
_KEYS = {  # of the options that are not called like their config key
    "data_root": "data.root",
    "model": "model.factory",
    "workers": "engine.workers",
    "reconstructors": "engine.reconstructors",
    "generators": "engine.generators",
    "gpus_per_worker": "engine.gpus_per_worker",
    "device": "engine.device",
    "augment": "augment.attack",
    "augment_share": "augment.share",
    "augment_epsilon": "augment.epsilon",
    "surrogate": "augment.surrogate",
}


class Size(click.ParamType):  # type: ignore[type-arg]  # generic in the latest click alone
    """The size of an attack: a number, or a fraction as papers have it, ``8/255``."""

    name = "number"

    def convert(self, value: str | float, parameter: click.Parameter | None, context: click.Context | None) -> float:
        """The text as a number."""
        try:
            above, slash, below = str(value).partition("/")
            return float(above) / float(below) if slash else float(above)
        except (ValueError, ZeroDivisionError):
            self.fail(f"{value!r} is no number; give one such as 0.1 or 8/255", parameter, context)


Decorator = Callable[[Callable[..., None]], Callable[..., None]]


def _all_of(*options: Decorator) -> Decorator:
    """Several options as one, in the order in which ``--help`` lists them."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


json_option = click.option("--json", "as_json", is_flag=True, help="End standard output with one JSON object.")
data_root_option = click.option(
    "--data-root", type=KEPT_PLACE, metavar="DIR", help="Folder of the data.  [default: the run's]"
)
address_option = click.option(
    "--address", metavar="URL", help="The cluster's dashboard.  [default: RAY_ADDRESS, or http://127.0.0.1:8265]"
)


def _place_set(setting: str) -> str:
    """The place that a ``--set KEY=VALUE`` names; "" if its key is about something else."""
    from glr_dist.config import PLACES

    key, _, value = setting.partition("=")
    return value.strip() if key.strip() in PLACES else ""


_set = Place(_place_set, kept=True)
settings_option = click.option(
    "--set",
    "settings",
    type=_set,
    metavar="KEY=VALUE",
    multiple=True,
    help="Any config key, which glr-dist config lists; repeatable.",
    shell_complete=complete_settings,
)
_data_type = Data(NAMES)
preset_options = _all_of(  # the preset, the data, and what of one's own takes the place of the preset's
    click.argument(
        "preset", type=Config(), metavar="[PRESET|FILE.toml]", required=False, shell_complete=complete_presets
    ),
    click.option(
        "--data",
        type=_data_type,
        metavar="NAME|PATH|FILE.py:NAME",
        help="Data of your own: a folder of images in class folders, .npz, .csv, .tsv, .parquet (Hugging Face's too), .arff,"
        " .libsvm; a function, called with nothing, that returns a torch Dataset or a pair of them for training and test;"
        f" or {', '.join(NAMES)}.",
    ),
    click.option(
        "--data-root",
        type=KEPT_PLACE,
        metavar="DIR",
        help="Folder of a named set's files, as every node sees it; downloaded when left out.",
    ),
    click.option(
        "--model",
        type=Code("model.factory (--model)"),
        metavar="FILE.py:NAME",
        help="A network of your own: a class, or a function that returns a torch.nn.Module; called with nothing, or with"
        " (shape, classes): of one example's inputs, and how many outputs.  [default: the preset's]",
    ),
    click.option(
        "--loss",
        type=Code("loss (--loss)", LOSSES),
        shell_complete=complete_losses,
        metavar="NAME|FILE.py:NAME",
        help=f"{', '.join(LOSSES)}; or a function of your own, called with outputs [B, C] and labels [B], that returns a"
        " loss for each example, [B]; it needs no derivative.",
    ),
)
run_options = _all_of(  # these, and the options that say who does the work
    preset_options,
    click.option("--workers", type=int, help="Worker actors; 0: none, without Ray; -1: as many as pay."),
    click.option("--reconstructors", type=int, help="Reconstructor actors; 0: reconstruct in the driver."),
    click.option("--generators", type=int, help="Actors for adversarial rows; 0: made where they are needed."),
    click.option("--gpus-per-worker", type=float, help="GPUs of each worker; may be a fraction."),
    click.option("--device", metavar="cpu|cuda|auto", help="Of this process, where it does all the work."),
)
journal_key_option = click.option(
    "--journal-key", type=PLACE, metavar="FILE", help="A file with the key that signs the journal."
)
journal_options = _all_of(  # the run whose journal a command reads, and where what belongs to it lies now
    click.argument("run", type=PLACE),
    data_root_option,
    click.option(
        "--surrogate",
        type=KEPT_PLACE,
        metavar="CHECKPOINT",
        help="Where its surrogate lies now, if it had one that moved.",
    ),
    click.option("--trust-model", is_flag=True, help="Import and run the code that the run names."),
    journal_key_option,
    json_option,
)
data_options = _all_of(  # which samples
    click.option(
        "--dataset", metavar="NAME", help="digits, mnist, fashion-mnist, cifar10, parquet.  [default: the run's]"
    ),
    data_root_option,
    click.option("--split", type=click.Choice(["test", "validation", "train"]), default="test", show_default=True),
    click.option("--count", type=int, help="So many samples, chosen by the seed.  [default: all]"),
    click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of everything random."),
    click.option("--trust-model", is_flag=True, help="Import and run the code that a checkpoint names."),
)
attack_options = _all_of(  # what sizes an attack
    click.option(
        "--epsilon",
        "epsilons",
        type=Size(),
        multiple=True,
        help="Size of the L-infinity ball, pixels being in [0, 1], such as 0.1 or 8/255; repeatable.  [default: 0.1]",
    ),
    click.option("--steps", type=int, help="Of the iterative attacks.  [default: 40]"),
    click.option("--step-size", type=float, help="Of each step, in input units.  [default: 2.5 epsilon / steps]"),
    click.option("--restarts", type=int, help="Random starts of the iterative attacks.  [default: 1, stand-ins 3]"),
    click.option("--draws", type=int, help="random-signs: draws per sample; eot-pgd: noise draws per gradient."),
    click.option("--queries", type=int, help="hopskipjump, square: most forward passes per sample."),
)


def run_stem(preset: str | None) -> str:
    """What the folder of a run begins with whose user named none: a preset, a TOML file or data."""
    return f"runs/{Path(preset or DEFAULT_PRESET).stem}"


def new_config(preset: str | None) -> str:
    """The file of a tuned config whose user named none."""
    return f"{dated(f'tuned/{Path(preset or DEFAULT_PRESET).stem}')}.toml"


def config_overrides(options: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Config values by dotted key, from named options (None: left out) and from ``--set KEY=VALUE``.

    Raises:
        UserError: a setting is no KEY=VALUE, or its key is given twice.
    """
    from glr_dist.settings import override

    found = {_KEYS.get(option, option): value for option, value in options.items() if value is not None}
    if "model.factory" in found:
        found["model.kind"] = "factory"
    if (data := found.pop("data", None)) is not None:
        found |= _data_keys(data, found.get("data.root"))
    for setting in settings:
        key, value = override(setting)
        if key in found:
            raise UserError(f"--set {setting}: {key} is given twice; leave one out")
        found[key] = value
    return found


def _data_keys(data: str, root: str | None) -> dict[str, str]:
    """What ``--data`` means: a named set, a function that makes one, or a path."""
    if data in NAMES:
        return {"data.name": data}
    if root is not None:
        raise UserError(f"--data-root {root}: is the folder of a named set, and --data {data} is none; leave it out")
    if _data_type.part(data):
        return {"data.name": "files", "data.root": data}
    return {"data.name": "factory", "data.factory": data}


def attacks_of(names: Sequence[str], epsilons: Sequence[float], settings: Mapping[str, Any]) -> list[Attack]:
    """Every attack in every size (by default 0.1) with the given settings (None: left out).

    Raises:
        UserError: for an unknown name, a value out of range, or an option that none of these attacks has.
    """
    if epsilons and not names:
        raise UserError(f"--epsilon {epsilons[0]}: is the size of an attack; give one with --attack, or leave it out")
    from glr_dist.attacks.attack import ATTACKS, named_attack, own_settings

    given = {key: value for key, value in settings.items() if value is not None}
    from glr_dist.attacks.ball import refuse_size

    sizes = dict.fromkeys(epsilons or (_DEFAULT_EPSILON,))
    for size in sizes:
        refuse_size(size)
    found = [named_attack(name, size, **given) for name in dict.fromkeys(names) for size in sizes]
    for option, value in given.items():
        having = [name for name, kind in ATTACKS.items() if option in own_settings(kind)]
        if not set(names) & set(having):
            flag = _FLAGS.get(option, option.replace("_", "-"))
            raise UserError(
                f"--{flag} {value}: is a setting of {', '.join(having)}; give one of them with --attack, or leave it out"
            )
    return found


@contextmanager
def actors(workers: int) -> Iterator[int]:
    """Within: Ray is up, if actors are wanted. 0 workers: none; -1: as many as there is room for, which may be none.

    Yields:
        The number of actors to start, one CPU each.

    Raises:
        UserError: when there is no room for as many as were asked for.
    """
    if workers == 0:
        yield 0
        return
    from glr_dist.workers.cluster import connected

    with connected():
        room = _room(max(workers, 1))
        if room < workers:
            raise UserError(
                f"--workers {workers}: needs {workers} CPUs, the cluster has {room} free; lower it, or give --workers 0"
                " to do without actors"
            )
        yield room if workers == -1 else workers


def _room(wanted: int) -> int:
    """Free CPUs, after a short wait if there are fewer than wanted."""
    import ray

    from glr_dist.workers.cluster import spare_room

    deadline = time.monotonic() + _START_SECONDS
    while (room := spare_room(threads=1, gpus=0.0)) < wanted:
        if ray.cluster_resources().get("CPU", 0.0) < wanted or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    return room

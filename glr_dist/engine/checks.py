"""What a run starts from: the model, the task, the optimizer and its schedule, as a config describes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from glr_dist.config import Config
from glr_dist.core.behaviour import refuse_misbehaviour, refuse_unreached, refuse_unreached_by_autograd
from glr_dist.core.config import LOSSES, ON_NUMBERS, EstimatorConfig, NoiseConfig
from glr_dist.core.losses import Loss, named_loss, per_batch
from glr_dist.core.own_code import is_own
from glr_dist.core.parameters import trainable_parameters
from glr_dist.core.passes import folds
from glr_dist.core.probing import find_sites
from glr_dist.core.units import FlipKind
from glr_dist.data.batches import BlockSchedule
from glr_dist.data.dataset import open_dataset
from glr_dist.data.source import DataSource
from glr_dist.engine.certified import Certified
from glr_dist.engine.optimization import build_optimizer, build_schedule
from glr_dist.engine.plan import Plan
from glr_dist.engine.rehearsal import first_rows, refuse_bad_loss, refuse_strangers, try_checkpoint
from glr_dist.engine.rows import refuse_unshiftable, refuse_without_input_gradient
from glr_dist.engine.task import Task
from glr_dist.engine.trainer import Trainer
from glr_dist.errors import UserError, blamed
from glr_dist.methods.method import named_method
from glr_dist.models.spec import build_model, refuse_not_finite
from glr_dist.runs.card import SurrogateCard
from glr_dist.runs.network import Network, open_network, read_origin
from glr_dist.runs.record import FREE
from glr_dist.store.checkpoint import CheckpointError

_BUILT_HERE = ("mlp", "conv")  # kinds that need no code but this package's
_UNITS_IN_TABLE = 4  # the noise table holds at least so many of the largest units


def set_up(
    config: Config, model: nn.Module | None, data: DataSource | None, loss: Loss | None, code: Path | None = None
) -> tuple[Trainer, Task]:
    """What a run starts from: a trainer at the initial parameters, and its task.

    Model (with the initial parameters in it), data and loss are the user's own; the config describes those that are None.
    ``code``: the folder of a run's copy of the code that the config names.

    Raises:
        UserError: when they don't go together.
    """
    refuse_strangers(model, data, loss)
    data = data or open_dataset(config.data, code and code / "data")
    if model is None:
        model = build_model(config.model, data.shape, len(data.classes), config.seed, code and code / "model")
    refuse_other_targets(config.loss if loss is None else "", data)
    if loss is None and is_own(config.loss):
        loss = named_loss(config.loss, code and code / "loss")
    task = make_task(config, model, data, loss)
    if loss is not None:
        refuse_bad_loss(loss, model, *first_rows(data))
    optimizer = build_optimizer(config.optimizer, list(task.trainable.values()))
    trainer = Trainer(task, optimizer, build_schedule(config.schedule, optimizer, config.optimizer.lr, config.steps))
    try_checkpoint(config, trainer)
    return trainer, task


def refuse_changes(before: Config, now: Config, keys: Iterable[str]) -> None:
    """Refuse to resume a run with other values of some (dotted) keys if these make a difference to its result.

    Raises:
        UserError: naming the first that has another value.
    """
    for key in keys:
        was, given = _value(before, key), _value(now, key)
        if key not in FREE and was != given:
            raise UserError(
                f"{key}: can't change when a run is resumed: it is {was!r}, not {given!r}; start a new run, or leave it out"
            )
    for role in ("evaluates_on", "reconstructs_on"):
        was, given = getattr(before.engine, role), getattr(now.engine, role)
        if was != given:
            raise UserError(
                f"engine: the run {role.replace('_', ' ')} {was}, and can't go on with {given}, whose bits are others; leave"
                " out what changes that, or start a new run"
            )


def _value(config: Config, key: str) -> Any:
    """Of a dotted key; None where there is none."""
    tree: Any = dataclasses.asdict(config)
    for name in key.split("."):
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree


def make_task(config: Config, model: nn.Module, data: DataSource, loss: Loss | None) -> Task:
    """The training task that a config, a model and data make.

    Raises:
        UserError: when they don't go together.
    """
    model.eval()
    refuse_unfit(model, data)
    x, labels = first_rows(data)
    refuse_misbehaviour(model, x)
    certified = Certified.of(config.loss, config.certify, config.schedule, config.steps, tuple(data.shape))
    seen = model if certified is None else certified.network(model)
    x = x if certified is None else certified.rows(x, labels, 0)[0]
    sites = find_sites(seen, x.shape[1:], config.estimator.sites, x)
    fold = folds(seen, sites, x.shape[1:], x)
    if not fold:  # then turned bits are copies of all of their site, whoever reads it, and units are cut for that
        sites = [dataclasses.replace(site, reader=None) for site in sites]
    whole = loss is not None and per_batch(loss)
    rows = config.units.rows_for(config.batch, whole=whole)
    schedule = BlockSchedule(data.sizes("train"), batch=config.batch, rows=rows, seed=config.seed)
    trainable = trainable_parameters(seen, sites)
    if not trainable:
        raise UserError("model: none of its parameters has requires_grad, so there is nothing to train")
    method = named_method(config.method)
    kinds = method.kinds(sites, sum(p.numel() for p in trainable.values()), config.estimator)
    kinds = [dataclasses.replace(kind, batch=True) for kind in kinds] if whole else kinds
    plan = Plan.of(kinds, schedule, config.units, seed=config.seed, observes=method.observes)
    task = Task(
        model=model,
        sites=tuple(sites),
        fold=fold,
        method=method,
        loss=loss or named_loss(config.loss),
        estimator=config.estimator,
        noise=config.noise,
        plan=plan,
        data=data,
        augment=config.augment,
        certified=certified,
        surrogate=open_surrogate(config.augment.surrogate, data) if config.augment.surrogate else None,
    )
    refuse_tight_table(task.noise, plan)
    refuse_ignored_copies(config.estimator, plan)
    task.method.refuse(task.net(torch.device("cpu")), x, labels)
    if not method.observes:
        refuse_unreached_by_autograd(seen, x, trainable)
    elif method.noises == "neurons":
        refuse_unreached(seen, sites, x, trainable)
    if task.augment.active and (data.numbers or not x.is_floating_point()):
        raise UserError("augment: changes images that have classes; leave it out, or use other data")
    refuse_unshiftable(task)
    if task.augment.attack:
        refuse_without_input_gradient(task)
    return task


def refuse_other_targets(loss: str, data: DataSource) -> None:
    """Raise UserError for a loss of this package, by its name, that takes other targets than the data have."""
    on_numbers = loss in ON_NUMBERS
    if loss not in LOSSES or on_numbers == data.numbers:
        return
    if on_numbers:
        raise UserError(
            f"loss = {loss!r}: is for targets that are numbers, and {data.name} has {len(data.classes)} classes; use --loss"
            " cross-entropy, or, of files, --set data.targets=numbers"
        )
    raise UserError(
        f"loss = {loss!r}: is for classes, and the targets of {data.name} are numbers ({len(data.classes)} a row); use"
        f" --loss {', '.join(ON_NUMBERS)} or one of your own, or, of files, --set data.targets=classes"
    )


def open_surrogate(place: str, data: DataSource) -> Network:
    """A checkpoint's network, or that of a run's newest one, to make adversarial rows on; no code is imported for it.

    Raises:
        UserError: when there is no sound checkpoint, it needs foreign code, or takes other inputs or classes.
    """
    try:
        origin = read_origin(place)
    except CheckpointError as error:
        raise UserError(f"--surrogate: {error}") from error
    card = origin.card
    kind = "custom" if card.model is None else card.model.kind
    if kind not in _BUILT_HERE:
        raise UserError(
            f"--surrogate {origin.place}: its network is of kind {kind!r}, built by code outside this package; use a run"
            f" with model.kind = {' or '.join(map(repr, _BUILT_HERE))}"
        )
    for thing, theirs, ours in (
        ("inputs of shape", list(card.shape), list(data.shape)),
        ("a number of classes of", len(card.classes), len(data.classes)),
        ("classes", list(card.classes), list(data.classes)),  # Fashion-MNIST's fit on MNIST's, and tell nothing of them
    ):
        if theirs != ours:
            raise UserError(
                f"--surrogate {origin.place}: has {thing} {theirs}, the training data {ours}; use a run on such data"
            )
    return open_network(place)


def surrogate_card(task: Task) -> SurrogateCard | None:
    """What a run's card says of the network that adversarial rows are made on; None where it is no fixed one."""
    network = task.surrogate
    if network is None:
        return None
    assert network.card.model is not None  # it was built from it
    return SurrogateCard(place=network.place, params_sha256=network.params_sha256, model=network.card.model)


def refuse_unfit(model: nn.Module, data: DataSource) -> None:
    """Refuse a model that can't be run on the data as it is.

    Raises:
        UserError: for parameters that are no finite float32 on the CPU, an input that the model can't take, outputs that
            don't match the classes, and buffers that move in a forward pass, so that no unit could be run twice.
    """
    for name, p in model.named_parameters():
        if isinstance(p, nn.parameter.UninitializedParameter) or p.is_inference():
            how = "under torch.inference_mode" if p.is_inference() else "without a shape; call it once"
            raise UserError(f"model: parameter {name!r} was made {how}; give a model that is whole")
        if p.dtype != torch.float32 or p.device.type != "cpu":
            raise UserError(
                f"model: parameter {name!r} is {str(p.dtype).removeprefix('torch.')} on {p.device}; give a float32 model"
                " on the CPU (workers with GPUs move their copies)"
            )
    refuse_not_finite(model, "model")
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    x, _ = data.first(2)
    try:
        with torch.no_grad():
            outputs = model(torch.zeros_like(x))
    except Exception as error:  # the user's own code may raise anything
        raise UserError(f"model: can't take the data's shape {list(data.shape)}: {blamed(error)}") from error
    if isinstance(outputs, torch.Tensor) and outputs.dim() == 2 and outputs.shape[1] != len(data.classes):
        what = "targets a row" if data.numbers else "classes"
        raise UserError(f"model: has {outputs.shape[1]} outputs, the data have {len(data.classes)} {what}")
    for name, buffer in model.named_buffers():
        if not torch.equal(buffer, before[name]):
            raise UserError(
                f"model: buffer {name!r} changes in a forward pass, so no work unit could be run twice with one result;"
                " leave out layers that keep running statistics"
            )


def refuse_ignored_copies(estimator: EstimatorConfig, plan: Plan) -> None:
    """UserError for keys of the noisy copies, if not at their defaults, where bits are turned at every site."""
    if not plan.pieces or not all(isinstance(kind, FlipKind) for kind, _ in plan.pieces):
        return
    for key in ("copies", "antithetic", "baseline"):
        if (value := getattr(estimator, key)) != getattr(EstimatorConfig(), key):
            raise UserError(
                f"estimator.{key} = {value}: changes nothing, since estimator.scheme = {estimator.scheme!r} turns bits"
                " at every site that is trained; leave it out"
            )


def refuse_tight_table(noise: NoiseConfig, plan: Plan) -> None:
    """UserError for a noise table in which units would see nearly the same slice again and again."""
    least = _UNITS_IN_TABLE * plan.largest_draw
    if noise.source == "table" and noise.table_size < least:
        raise UserError(
            f"noise.table_size = {noise.table_size}: the largest work unit draws {plan.largest_draw} values; give at least"
            f" {least}, or lower units.copies or units.rows"
        )

"""What a training method is, and the table of all methods; nobody outside this room compares their names.

A method says which units a step consists of, what an evaluator computes for one of them, and how losses and noise become
the gradient of a block of examples. All gradients are *sums* over the block's rows, one tensor per trainable parameter:
the crew adds the blocks up in their order and divides by the batch. Copies come in pieces, one per unit, so memory is
bounded by the largest piece.

Shapes: S signs, P draws, K copies, R rows (examples), N a site's outputs, D trainable parameters, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from glr_dist.core.config import METHODS as ABOUT_METHODS
from glr_dist.core.config import EstimatorConfig, NoiseConfig
from glr_dist.core.estimator import advantages
from glr_dist.core.kept import Kept
from glr_dist.core.losses import Loss, check_losses
from glr_dist.core.parameters import trainable_parameters
from glr_dist.core.passes import SiteNoise
from glr_dist.core.sites import Site, plain_attention
from glr_dist.core.taps import Hooks, Taps, taps_of
from glr_dist.core.units import UnitKind
from glr_dist.errors import check_known

Noised = Literal["neurons", "weights", "nothing"]


@dataclass(frozen=True, kw_only=True)
class Net:
    """A network on one device, with all that says how it is trained."""

    model: nn.Module  # at the parameters of the step
    sites: Sequence[Site]
    fold: bool  # whether `glr_dist.core.passes.folds` lets copies be rows of a larger batch
    loss: Loss
    noise: NoiseConfig
    estimator: EstimatorConfig
    trained: dict[str, nn.Parameter]  # the parameters that get a gradient, by name in the model's order
    taps: Taps  # how passes are run with something put in at the sites
    kept: Kept = field(default_factory=Kept)  # what is made once per step and asked for by several units

    @classmethod
    def of(
        cls,
        model: nn.Module,
        sites: Sequence[Site],
        *,
        fold: bool = False,
        loss: Loss,
        noise: NoiseConfig,
        estimator: EstimatorConfig,
    ) -> Net:
        """A network with those parameters to train that belong to a site."""
        plain_attention(model)
        trained = trainable_parameters(model, sites)
        taps = taps_of(model, sites) if fold else Hooks(model, sites)
        return cls(
            model=model,
            sites=sites,
            fold=fold,
            loss=loss,
            noise=noise,
            estimator=estimator,
            trained=trained,
            taps=taps,
        )

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The trained ones."""
        return list(self.trained.values())

    def autograd(self, total: Tensor) -> list[Tensor]:
        """D total / d parameters, zeros where the graph does not reach: a Heaviside unit's derivative is 0."""
        return list(torch.autograd.grad(total, self.parameters, allow_unused=True, materialize_grads=True))


@dataclass(frozen=True, kw_only=True)
class Observed:
    """One unit as a gradient needs it.

    Its losses are what an evaluator sent, such as float32 [S, P, R] (a whole batch's stands in each row), and zeros for
    methods that observe none; ``noise``
    draws its noise again: {site index: [P, R, *N]}, or {ALL_SITES: [P, D]} for noise on the weights.
    """

    kind: UnitKind
    losses: Tensor
    noise: Callable[[], SiteNoise]


@dataclass(frozen=True)
class Gradient:
    """What a block of examples gives: the gradient of its summed loss, and that loss where no evaluator has sent it."""

    parts: list[Tensor]  # one per trained parameter
    loss: float | None = None


class Method(Protocol):
    """A training method; inherit from it to be given what most have in common.

    Attributes:
        name: as ``--method`` has it.
        observes: whether it lives on losses of noisy passes, which evaluators send home; else on autograd.
        noises: what its training noise moves.
    """

    name: ClassVar[str]
    observes: ClassVar[bool]
    noises: ClassVar[Noised]

    def kinds(self, sites: Sequence[Site], parameters: int, estimator: EstimatorConfig) -> list[UnitKind]:
        """The kinds of unit that every block of examples gets, so many parameters being trained; none without noise."""
        ...

    def losses(self, net: Net, kind: UnitKind, noise: SiteNoise, x: Tensor, labels: Tensor, where: str) -> Tensor:
        """What an evaluator computes of a unit, in the shape that its kind says, such as the losses [K, R].

        Args:
            net: the network; no derivative is taken.
            kind: of the unit.
            noise: its standard noise, as in `Observed`.
            x: the block's inputs [R, ...].
            labels: [R].
            where: the unit, for messages.

        Raises:
            UserError: when the loss has a wrong shape or is not finite.
        """
        raise AssertionError(f"method {self.name!r} observes no losses")

    def gradient(self, net: Net, x: Tensor, labels: Tensor, units: Sequence[Observed], where: str) -> Gradient:
        """The gradient of a block's summed loss.

        Args:
            net: at the parameters that the losses were observed at.
            x: the block's inputs [R, ...].
            labels: [R].
            units: the block's, in their order.
            where: the block, for messages.

        Raises:
            UserError: when losses that are computed here have a wrong shape or are not finite.
        """
        ...

    def refuse(self, net: Net, x: Tensor, labels: Tensor) -> None:
        """Raise UserError for a network or loss that the method can't train, saying what to use instead.

        With some of the data's rows: inputs [R, ...] and labels [R], or numbers [R, C].
        """
        return


METHODS: dict[str, Method] = {}


def register(method: Method) -> None:
    """Let configs name a method."""
    about = ABOUT_METHODS.setdefault(method.name, (method.observes, method.noises))
    assert about == (method.observes, method.noises), method.name
    METHODS[method.name] = method


def named_method(name: str) -> Method:
    """The method of that name; UserError where there is none."""
    check_known("method", name, METHODS)
    return METHODS[name]


def signed_losses(
    kind: UnitKind, noise: SiteNoise, rows: int, where: str, evaluate: Callable[[float], Tensor]
) -> Tensor:
    """The losses of both signs of a unit's draws, or of the one that there is, [K, R]; ``evaluate``: sign -> [P, R].

    Raises:
        UserError: when these have a wrong shape or are not finite.
    """
    parts = [evaluate(sign) for sign in (1.0, -1.0)[: kind.signs]]
    for losses in parts:
        check_losses(losses, (len(next(iter(noise.values()))), 1 if kind.batch else rows), where)
    return torch.cat(parts)


def with_advantages(units: Sequence[Observed], baseline: str) -> list[tuple[Tensor, Observed]]:
    """Each unit with its advantages [S, P, R]; the baseline is taken over all of them."""
    if len(units) == 1:
        return [(advantages(units[0].losses, baseline), units[0])]
    every = advantages(torch.cat([unit.losses for unit in units], dim=1), baseline)
    parts = every.split([unit.losses.shape[1] for unit in units], dim=1)
    return list(zip(parts, units, strict=True))

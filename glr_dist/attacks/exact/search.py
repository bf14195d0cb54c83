"""Exact robust accuracy of networks with one hidden Heaviside layer: is there an adversary in the ball, or provably none?

Cheap answers first: the clean input, interval bounds, a local search, the linear relaxation of each wrong class; what is
left goes to a mixed-integer program per wrong class (`glr_dist.attacks.exact.program`; for ReLU networks: Tjeng, Xiao
and Tedrake, 2019, "Evaluating robustness of neural networks with mixed integer programming").
*robust* means proved with every unit's bit free within a margin of its threshold, ties of the logits counted against the
network, and inputs up to 1e-6 outside the ball; where nothing but these leaves it undecided, of the inputs of the ball
itself, to the last bit. *broken* means that a float32 forward pass of the network itself was fooled by an input of the ball,
to the last bit; nothing is ever guessed. A margin is never below what float32 may do to its sum
(`glr_dist.attacks.exact.margin`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import nn

from glr_dist.attacks.exact.network import SLACK, Ball, Floats, ThresholdNetwork, ball_around, threshold_network
from glr_dist.attacks.exact.program import Program, Solution, class_programs, relax, solve, with_cliques
from glr_dist.errors import UserError

_WIDTHS = (0.02, 0.05, 0.15, 0.5)  # of the bells that stand in for the step's derivative, as shares of the units' range
_ROUNDS = 4


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is known of one input."""

    status: str  # robust, broken or undecided (out of time, or nothing but bits within the margin to tell)
    adversary: (
        NDArray[np.float32] | None
    )  # of the input's shape, where broken; the input itself where it is wrong as it is
    bound: (
        float  # proved: nowhere in the ball does a wrong class's logit exceed the label's by more; below 0 where robust
    )
    seconds: float  # spent


def verify(
    model: nn.Module | ThresholdNetwork,
    x: NDArray[np.float32],
    label: int,
    epsilon: float,
    *,
    seconds: float,
    margin: float = 1e-4,
) -> Verdict:
    """Decide whether any input within epsilon (L-infinity, and within [0, 1]) is taken for another class than the label.

    Args:
        model: an mlp with one hidden Heaviside layer, or what `threshold_network` made of it.
        x: float32 in [0, 1], the shape of one example.
        label: its class.
        epsilon: radius, in input units.
        seconds: the most it may take, nearly; the verdict is undecided then.
        margin: how near 0 a pre-activation or a lead counts as either sign, as a share of the norm of its weights and bias;
            at least what float32 may do to it, see `glr_dist.attacks.exact.margin`.

    Raises:
        UserError: for another architecture, an input of another size, or values outside their range.
    """
    started = time.perf_counter()
    network = model if isinstance(model, ThresholdNetwork) else threshold_network(model)
    _check(network, x, label, epsilon, seconds)
    wide, ball = (ball_around(x.reshape(-1), epsilon, network.input_threshold, slack) for slack in (SLACK, 0.0))
    search = _Search(network, wide, ball, label, margin, x.shape, started + seconds)
    status, adversary = search.run()
    if status == "undecided" and time.perf_counter() < started + seconds:
        # what decides may lie just outside the ball: ask of the ball itself, to the last bit
        search = _Search(network, ball, ball, label, margin, x.shape, started + seconds)
        status, adversary = search.run()
    found = None if adversary is None else adversary.reshape(x.shape)
    return Verdict(status=status, adversary=found, bound=search.bound, seconds=time.perf_counter() - started)


def _check(network: ThresholdNetwork, x: NDArray[np.float32], label: int, epsilon: float, seconds: float) -> None:
    inputs, classes = network.w.shape[1], len(network.d)
    if x.dtype != np.float32 or x.size != inputs:
        raise UserError(f"exact: an input is {x.dtype} of {x.size} values; the network takes float32 of {inputs}")
    if not (np.isfinite(x).all() and x.min() >= 0.0 and x.max() <= 1.0):
        raise UserError("exact: an input has values outside [0, 1]; scale the images first")
    if not 0 <= label < classes:
        raise UserError(f"exact: label {label}: the network has classes 0 to {classes - 1}")
    if not (np.isfinite(epsilon) and epsilon >= 0):
        raise UserError(f"--epsilon {epsilon}: must be a finite number, 0 or more (pixels are in [0, 1])")
    if not seconds >= 0:
        raise UserError(f"--seconds-per-sample {seconds}: must be 0 or more")


@dataclass
class _Search:
    """One input's search, until a clock's ``deadline``; `bound` is what has been proved so far."""

    network: ThresholdNetwork
    wide: Ball  # for proofs
    ball: Ball  # for adversaries
    label: int
    margin: float
    shape: tuple[int, ...]
    deadline: float
    bounds: dict[int, float] = field(default_factory=dict)  # wrong class -> proved bound of its lead

    @property
    def bound(self) -> float:
        return max(self.bounds.values(), default=np.inf)

    def run(self) -> tuple[str, NDArray[np.float32] | None]:
        """Status and adversary; each stage yields inputs for the network to judge, and tightens the bounds."""
        if self._fools(self.ball.x):
            return "broken", self.ball.x
        programs = class_programs(self.network, self.wide, self.label, self.margin)
        self.bounds = {program.wrong: program.interval_bound for program in programs}
        for stage in (self._local, self._relaxed, self._whole):
            programs = sorted(filter(self._is_open, programs), key=lambda program: -self.bounds[program.wrong])
            for candidate in stage(programs):
                if self._fools(candidate):
                    return "broken", candidate
            if stage == self._local:
                programs = [with_cliques(program) for program in programs]
        return ("undecided" if any(map(self._is_open, programs)) else "robust"), None

    def _is_open(self, program: Program) -> bool:
        return self.bounds[program.wrong] >= -program.lead_slack

    @torch.no_grad()
    def _fools(self, candidate: NDArray[np.float32]) -> bool:
        """Whether a point [D] lies in the ball and a float32 pass of the network itself takes it for another class."""
        if not self.ball.holds(candidate):
            return False
        logits = self.network.model(torch.from_numpy(candidate).reshape(1, *self.shape))
        return int(logits[0].argmax()) != self.label

    def _local(self, programs: list[Program]) -> Iterator[NDArray[np.float32]]:
        if np.array_equal(self.ball.movable, self.wide.movable):
            inner = programs
        else:  # some pixels can pass the threshold just outside the ball
            wrong = [program.wrong for program in programs]
            every = class_programs(self.network, self.ball, self.label, self.margin)
            inner = sorted((one for one in every if one.wrong in wrong), key=lambda one: wrong.index(one.wrong))
        for program in inner:
            yield from map(self.ball.input_at, climbs(program))

    def _relaxed(self, programs: list[Program]) -> Iterator[NDArray[np.float32]]:
        for program, v in self._solved(programs, lambda program, left: relax(program)):
            if v is not None and self._is_open(program):
                yield self.wide.input_at(v)

    def _whole(self, programs: list[Program]) -> Iterator[NDArray[np.float32]]:
        for program, v in self._solved(programs, solve):
            if v is None:
                continue
            yield self.wide.input_at(v)
            # it leans on bits within the margin, or on pixels just outside the ball: ask for one that doesn't
            strict = class_programs(self.network, self.ball, self.label, self.margin, strict=True)
            same = next(other for other in strict if other.wrong == program.wrong)
            v = solve(same, self.deadline - time.perf_counter()).v
            if v is not None:
                yield self.ball.input_at(v)

    def _solved(
        self, programs: list[Program], answer: Callable[[Program, float], Solution]
    ) -> Iterator[tuple[Program, Floats | None]]:
        """Each program and the point that its solution found, while there is time; the bounds are tightened on the way."""
        for program in programs:
            left = self.deadline - time.perf_counter()
            if left <= 0:
                return
            solution = answer(program, left)
            self.bounds[program.wrong] = min(self.bounds[program.wrong], solution.bound)
            yield program, solution.v


def climbs(program: Program) -> Iterator[Floats]:
    """Points [F] where the wrong class leads, found by local search: none, one, or a few for the network to judge.

    First all inputs at once, each to the side that a bell-shaped derivative of the step asks for; then, from the best of
    these, one input at a time while that helps.
    """
    if not len(program.worth) or not program.slope.shape[1]:
        yield np.zeros(program.slope.shape[1])
        return
    span = float(-program.least.mean())
    best, best_lead = np.full(program.slope.shape[1], 0.5), -np.inf
    for width in _WIDTHS:
        v = best if width == _WIDTHS[0] else np.full_like(best, 0.5)
        for _ in range(_ROUNDS):
            u = program.slope @ v + program.offset
            v = (program.worth * np.exp(-0.5 * (u / (width * span)) ** 2) @ program.slope > 0).astype(np.float64)
            lead = float(program.leads(v))
            if lead > best_lead:
                best, best_lead = v, lead
    if best_lead < 0:
        best, best_lead = _one_at_a_time(program, best, _WIDTHS[1] * span)
    if best_lead >= 0:
        yield best


def _one_at_a_time(program: Program, v: Floats, width: float) -> tuple[Floats, float]:
    """Turn the input that raises a smooth stand-in of the lead most, again and again; the point with the greatest lead."""
    v, u = v.copy(), program.slope @ v + program.offset
    best, best_lead, height = v.copy(), float(program.leads(v)), -np.inf
    for _ in range(len(v)):
        after = u + (1.0 - 2.0 * v)[:, None] * program.slope.T  # [F, U]
        smooth = expit(after / width) @ program.worth
        leads = (after >= -program.slack) @ program.worth + program.base
        turned = int(leads.argmax()) if leads.max() >= 0 else int(smooth.argmax())
        if leads[turned] > best_lead:
            best, best_lead = v.copy(), float(leads[turned])
            best[turned] = 1.0 - best[turned]
        if best_lead >= 0 or smooth[turned] <= height:
            break
        height, u = float(smooth[turned]), after[turned]
        v[turned] = 1.0 - v[turned]
    return best, best_lead

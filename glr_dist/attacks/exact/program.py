"""One wrong class against the label, within one ball: the mixed-integer program of exact robust accuracy.

Let ``q = V[wrong] - V[label]``. A hidden unit is *won* where its bit is the one the wrong class wants (1 if q > 0, else 0);
with ``u = sign(q) * z / size``, size being the norm of the unit's row, unit h can be won where u_h >= 0. The wrong class
leads the label by

    lead = base + sum_h |q_h| g_h,    g_h in {0, 1},    g_h = 1 only if u_h = a_h + A_h v >= -slack_h

``base`` being the lead with no unit won. The label is safe from the class if the greatest lead is below 0. Each unit that
can be won at some places of the ball and not at others gets one row, with its least value l_h there (big-M from the
interval bound): ``A_h v + (l_h + slack_h) g_h >= l_h - a_h``.

Big-M rows alone leave a weak relaxation: it wins rival units by halves. So units that no point of the ball wins together are
found in pairs, and each clique of such pairs gets a row "at most one" (`with_cliques`). On networks trained to be robust
these rows prove by the relaxation alone much of what the solver could not decide in ten seconds without them.

The slack is what float32 may do, see `margin`: with slack > 0 bits within it may be either value, which proves safety; with
slack < 0 an adversary found will be confirmed. HiGHS's tolerance (1e-6 on rows and on bits) is well inside slacks of 1e-4
of a row whose size is 1, which all rows have here, that of the lead too.

Shapes: F inputs that can move, U units that can be won or not, H hidden units.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, milp

from glr_dist.attacks.exact.margin import lead_margin, lead_size, unit_margins
from glr_dist.attacks.exact.network import Ball, Floats, ThresholdNetwork

_INFEASIBLE = 2  # a status of scipy.optimize.milp
_SHARES = (0.2, 0.35, 0.5, 0.65, 0.8)  # of the first unit in the weighted sum of a pair


@dataclass(frozen=True, kw_only=True)
class Program:
    """The program of one wrong class; its open units are those that are won at some places of the ball only."""

    wrong: int
    base: float  # the lead with none of the open units won, those that are won anywhere in the ball counted
    worth: Floats  # [U] what winning each open unit adds to the lead
    offset: Floats  # [U] u at v = 0
    slope: Floats  # [U, F] how u moves with v
    least: Floats  # [U] the least u in the ball
    slack: Floats  # [U] see the module
    lead_slack: float  # of the lead, in logits
    lead_size: float  # in logits
    bits: bool  # whether v is made of bits
    cliques: tuple[list[int], ...] = ()  # sets of open units of which one at most can be won; see `with_cliques`

    @property
    def interval_bound(self) -> float:
        """No lead is greater than this, if every open unit could be won at once."""
        return self.base + float(self.worth.sum())

    def leads(self, v: Floats) -> Floats:
        """The lead at points v [..., F]: [...]."""
        won = v @ self.slope.T + self.offset >= -self.slack
        leads: Floats = self.base + won @ self.worth
        return leads


@dataclass(frozen=True, kw_only=True)
class Solution:
    """What the solver says of a program: no lead is greater than the bound, and the point [F] that it found."""

    bound: float
    v: Floats | None


def class_programs(
    network: ThresholdNetwork, ball: Ball, label: int, share: float, *, strict: bool = False
) -> list[Program]:
    """The programs of all wrong classes; the margins of units and leads are at least that share of their sizes.

    For proofs all that is within a margin counts as won; if strict nothing does, for adversaries that will be confirmed.
    """
    sizes = np.where(network.sizes > 0.0, network.sizes, 1.0)
    margins = unit_margins(network, ball, share) / sizes
    at_start = (network.w @ ball.start + network.b) / sizes  # [H]
    slope = network.w[:, ball.movable] * ball.width / sizes[:, None]  # [H, F]
    on = at_start + slope.clip(min=0.0).sum(1) >= -margins
    sign = -1.0 if strict else 1.0

    def program(wrong: int) -> Program:
        q = network.v[wrong] - network.v[label]
        side, slack = np.sign(q), sign * margins
        offset, moved = side * at_start, side[:, None] * slope
        least, most = offset + moved.clip(max=0.0).sum(1), offset + moved.clip(min=0.0).sum(1)
        always = least >= -slack
        open_units = np.flatnonzero(~always & (most >= -slack) & (q != 0.0))
        base = network.d[wrong] - network.d[label] + q[q < 0].sum() + np.abs(q[always]).sum()
        return Program(
            wrong=wrong,
            base=float(base),
            worth=np.abs(q[open_units]),
            offset=offset[open_units],
            slope=moved[open_units],
            least=least[open_units],
            slack=slack[open_units],
            lead_slack=sign * lead_margin(network, wrong, label, on, share),
            lead_size=lead_size(network, wrong, label),
            bits=ball.threshold is not None,
        )

    return [program(c) for c in range(len(network.d)) if c != label]


def relax(program: Program) -> Solution:
    """The program without whole numbers: an upper bound on the lead, and a point to try."""
    if not len(program.worth):  # the lead is the same everywhere
        return Solution(bound=program.interval_bound, v=None)
    result = _solve(program, {}, whole=False, goal=None)
    if result.x is None:
        return Solution(bound=program.interval_bound, v=None)
    return Solution(bound=program.base - program.lead_size * float(result.fun), v=result.x[: program.slope.shape[1]])


def solve(program: Program, seconds: float) -> Solution:
    """Find a point where the wrong class leads, or prove that there is none, within that time.

    The lead is asked to be at least -lead_slack, and any such point will do: the solver drops branches that can't reach it.
    """
    if not len(program.worth):
        return Solution(bound=program.interval_bound, v=None)
    options = {"time_limit": max(seconds, 0.0), "mip_rel_gap": 1e9}
    result = _solve(program, options, whole=True, goal=-program.lead_slack)
    if result.status == _INFEASIBLE:
        return Solution(bound=float(np.nextafter(-program.lead_slack, -np.inf)), v=None)
    bound = program.interval_bound
    if result.mip_dual_bound is not None:
        bound = min(bound, program.base - program.lead_size * float(result.mip_dual_bound))
    v = None if result.x is None else result.x[: program.slope.shape[1]]
    return Solution(bound=bound, v=v)


def _solve(program: Program, options: dict[str, float], *, whole: bool, goal: float | None) -> OptimizeResult:
    units, inputs = program.slope.shape
    rows: NDArray[np.float64] = np.hstack([program.slope, np.diag(program.least + program.slack)])
    constraints = [LinearConstraint(rows, program.least - program.offset, np.inf)]
    if program.cliques:
        together = np.zeros((len(program.cliques), inputs + units))
        for row, clique in zip(together, program.cliques, strict=True):
            row[inputs + np.array(clique)] = 1.0
        constraints.append(LinearConstraint(together, -np.inf, 1.0))
    value = np.concatenate([np.zeros(inputs), program.worth / program.lead_size])
    if goal is not None:
        constraints.append(LinearConstraint(value, (goal - program.base) / program.lead_size, np.inf))
    kinds = np.concatenate([np.full(inputs, float(program.bits)), np.ones(units)])
    with _stdout_kept():
        return milp(
            -value,
            integrality=kinds if whole else np.zeros_like(kinds),
            bounds=Bounds(0.0, 1.0),
            constraints=constraints,
            options=options,
        )


@contextmanager
def _stdout_kept() -> Iterator[None]:
    """Within: what a library's own code writes to the process's standard output goes to standard error.

    HiGHS has warnings that no option turns off, and a report may be on its way through standard output.
    """
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def with_cliques(program: Program) -> Program:
    """The program with rows that forbid winning units together which no point of the ball wins together."""
    conflict = conflicts(program)
    return replace(program, cliques=tuple(edge_cliques(conflict, program.worth)))


def conflicts(program: Program) -> NDArray[np.bool_]:
    """Pairs of open units that can't both be won: a weighted sum of their u is below 0 in the whole ball. [U, U].

    Bits enter through the box alone, so this is a linear program's answer for the pair, on a grid of the weights; the
    program's relaxation does not see it, as it lets both be won by halves.
    """
    units = len(program.worth)
    scale = 1.0 / (np.abs(program.slope).sum(1) + 1e-12)
    slope, offset = program.slope * scale[:, None], (program.offset + program.slack) * scale
    apart = np.zeros((units, units), dtype=bool)
    for first in range(units):
        for share in _SHARES:
            mixed = share * slope[first] + (1.0 - share) * slope[first + 1 :]
            greatest = share * offset[first] + (1.0 - share) * offset[first + 1 :] + mixed.clip(min=0.0).sum(1)
            apart[first, first + 1 :] |= greatest < -1e-9
    return apart | apart.T


def edge_cliques(conflict: NDArray[np.bool_], worth: Floats) -> list[list[int]]:
    """Cliques of a conflict graph that hold each of its edges at least once, grown greedily from the worthiest units."""
    uncovered, cliques = conflict.copy(), []
    for unit in np.argsort(-worth, kind="stable"):
        while uncovered[unit].any():
            # edges not yet in a clique first, then worth
            appeal = worth / worth.max() + uncovered[unit]
            clique, candidates = [int(unit)], conflict[unit].copy()
            while candidates.any():
                best = int(np.where(candidates, appeal, -1.0).argmax())
                clique.append(best)
                candidates &= conflict[best]
            uncovered[np.ix_(clique, clique)] = False
            cliques.append(clique)
    return cliques

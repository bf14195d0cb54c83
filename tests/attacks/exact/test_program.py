"""The mixed-integer program of one wrong class, against every pattern of bits."""

from __future__ import annotations

import itertools
import os
from typing import Any

import numpy as np
import pytest
from exact_oracles import lattice_net

from glr_dist.attacks.exact import program as the_program
from glr_dist.attacks.exact.network import ball_around, threshold_network
from glr_dist.attacks.exact.program import Program, class_programs, conflicts, edge_cliques, relax, solve, with_cliques
from glr_dist.attacks.exact.search import climbs

EVERY = np.array(list(itertools.product((0.0, 1.0), repeat=9)))


def programs(seed: int) -> list[Program]:
    """The two programs of a small network in which all 9 pixels can turn."""
    network = threshold_network(lattice_net(seed, inputs=9, hidden=14, classes=3, threshold=0.5))
    x = np.random.default_rng(seed).uniform(0.3, 0.7, 9).astype(np.float32)
    return class_programs(network, ball_around(x, 0.25, 0.5), 0, 1e-4)


@pytest.mark.parametrize("seed", range(12))
def test_leads_are_those_of_the_network(seed: int) -> None:
    network = threshold_network(lattice_net(seed, inputs=9, hidden=14, classes=3, threshold=0.5))
    logits = (EVERY @ network.w.T + network.b >= 0) @ network.v.T + network.d
    for program in programs(seed):
        np.testing.assert_allclose(program.leads(EVERY), logits[:, program.wrong] - logits[:, 0], atol=1e-9)


@pytest.mark.parametrize("seed", range(12))
def test_bounds_hold_and_cliques_only_tighten_them(seed: int) -> None:
    for program in programs(seed):
        greatest = float(program.leads(EVERY).max())
        tight = with_cliques(program)
        assert greatest <= relax(tight).bound + 1e-6
        assert relax(tight).bound <= relax(program).bound + 1e-6
        assert relax(program).bound <= program.interval_bound + 1e-6
        for given in (program, tight):
            solution = solve(given, seconds=30)
            assert (solution.v is not None) == (greatest >= 0)
            assert solution.v is None or float(program.leads(solution.v.round())) >= 0


def test_what_the_solver_writes_keeps_out_of_standard_output(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    solver = the_program.milp

    def talking(*arguments: Any, **options: Any) -> Any:
        os.write(1, b"a warning that no option turns off\n")
        return solver(*arguments, **options)

    monkeypatch.setattr(the_program, "milp", talking)
    print("before")
    for given in programs(0):
        relax(given)
    os.write(1, b"after\n")
    out, err = capfd.readouterr()
    assert (out, "a warning" in err) == ("before\nafter\n", True)


def test_conflicts_are_pairs_that_no_input_wins_together_and_most_such_pairs_are_found() -> None:
    found = real = 0
    for program in itertools.chain.from_iterable(programs(seed) for seed in range(12)):
        won = EVERY @ program.slope.T + program.offset >= -program.slack
        together = won.T.astype(int) @ won.astype(int) > 0
        conflict = conflicts(program)
        assert np.array_equal(conflict, conflict.T) and not (conflict & together).any()
        found, real = found + int(conflict.sum()), real + int((~together).sum())
    assert found >= 0.5 * real > 0


def test_cliques_hold_every_edge_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    upper = np.triu(rng.random((30, 30)) < 0.3, 1)
    graph = upper | upper.T
    covered = np.zeros_like(graph)
    for clique in edge_cliques(graph, rng.random(30)):
        pairs = np.ix_(clique, clique)
        assert len(set(clique)) == len(clique) and (graph[pairs] | np.eye(len(clique), dtype=bool)).all()
        covered[pairs] = True
    assert np.array_equal(covered & ~np.eye(30, dtype=bool), graph)


def test_local_search_finds_most_of_what_is_there() -> None:
    every = [program for seed in range(30) for program in programs(seed)]
    there = [program for program in every if program.leads(EVERY).max() >= 0]
    found = [v for program in there for v in climbs(program) if float(program.leads(v)) >= 0]
    assert len(there) >= 20 and len(found) >= 0.8 * len(there)
    assert not [v for program in every if program.leads(EVERY).max() < 0 for v in climbs(program)]

"""The quickest way is found, kept, and left when it is no longer the quickest."""

from __future__ import annotations

from glr_dist.workers.choice import Choice


def go(choice: Choice, seconds: dict[str, float], times: int) -> dict[str, int]:
    """Go so many times, each way taking its seconds; how often each was gone."""
    gone = dict.fromkeys(seconds, 0)
    for _ in range(times):
        way = choice.way
        gone[way] += 1
        choice.took(seconds[way])
    return gone


def test_the_quicker_of_two_is_found_and_told_once() -> None:
    told: list[tuple[str, dict[str, float]]] = []
    choice = Choice(("driver", "workers"), lambda way, took: told.append((way, took)))
    gone = go(choice, {"driver": 0.03, "workers": 0.02}, 100)
    assert gone["driver"] < 10
    assert told == [("workers", {"driver": 0.03, "workers": 0.02})]


def test_looking_at_a_far_slower_way_costs_a_small_share_of_the_time() -> None:
    choice = Choice(("here", "workers"))
    go(choice, {"here": 0.001, "workers": 0.1}, 50)
    gone = go(choice, {"here": 0.001, "workers": 0.1}, 200_000)
    assert 0 < 0.1 * gone["workers"] < 0.015 * 0.001 * gone["here"]


def test_a_way_that_becomes_the_quicker_is_taken_in_the_end() -> None:
    choice = Choice(("here", "workers"))
    assert go(choice, {"here": 0.01, "workers": 0.012}, 100)["here"] > 80
    go(choice, {"here": 0.01, "workers": 0.005}, 2000)
    assert choice.way == "workers"


def test_a_hair_makes_no_difference() -> None:
    told: list[str] = []
    choice = Choice(("here", "workers"), lambda way, took: told.append(way))
    go(choice, {"here": 0.01, "workers": 0.0101}, 100)
    go(choice, {"here": 0.01, "workers": 0.0099}, 5000)
    assert told == ["here"]


def test_ways_that_come_later_are_tried_at_once_beside_the_one_that_is_gone() -> None:
    choice = Choice(("here",))
    assert go(choice, {"here": 0.01}, 1000) == {"here": 1000}
    choice.add(("driver", "workers"))
    gone = go(choice, {"here": 0.01, "driver": 0.02, "workers": 0.004}, 100)
    assert choice.way == "workers"
    assert gone["driver"] < 10
    assert choice.typical() == {"here": 0.01, "driver": 0.02, "workers": 0.004}

from __future__ import annotations

from made_findings import card, findings, mask, outcome

from glr_dist.robustness.report.tally import groups, in_order, label, proofs, sorted_by_key, source, worst, worst_case


def test_worst_is_right_only_where_right_under_each() -> None:
    met = [
        outcome("fgsm", 0.1, mask("1101")),
        outcome("pgd", 0.1, mask("1011")),
        outcome("fgsm", 0.1, mask("0111"), model=1),
    ]
    assert {model: right.tolist() for model, right in worst(met).items()} == {
        0: [True, False, False, True],
        1: [False, True, True, True],
    }


def test_the_worst_case_counts_attacks_of_its_size_and_the_clean_sample_but_no_proof() -> None:
    found = findings(
        [card("a", mask("011111"))],
        [
            outcome("fgsm", 0.1, mask("101111")),
            outcome("bpda-pgd", 0.1, mask("110111")),
            outcome("pgd", 0.2, mask("000000")),
            outcome("exact", 0.1, mask("111011")),
        ],
    )
    assert worst_case(found, [0], 0.1)[0].tolist() == mask("000111").tolist()


def test_one_proof_that_decides_a_sample_is_enough() -> None:
    bounds = outcome("intervals", 0.1, mask("110000"), undecided=mask("001110"), bounded=mask("110000"))
    program = outcome("exact", 0.1, mask("111000"), undecided=mask("000100"), bounded=mask("100000"))
    proof = proofs([outcome("fgsm", 0.1, mask("111111")), bounds, program])[0]
    shares = {"intervals": 2 / 6, "program": 1 / 6, "broken": 2 / 6, "undecided": 1 / 6}
    assert proof.shares == shares
    assert proofs([program, bounds])[0].shares == shares
    assert proof.safe.tolist() == mask("111000").tolist()


def test_settings_that_do_not_matter_to_an_attack_do_not_part_its_outcomes() -> None:
    right = mask("1")
    assert source(outcome("fgsm", 0.1, right, steps=7)) == source(outcome("fgsm", 0.2, right, steps=9))
    assert source(outcome("pgd", 0.1, right, steps=7)) != source(outcome("pgd", 0.1, right, steps=9))
    assert source(outcome("random-signs", 0.1, right)) == source(outcome("random-signs", 0.1, right, draws=1000))
    assert source(outcome("fgsm", 0.1, right, surrogate=0)) != source(outcome("fgsm", 0.1, right, surrogate=1))


def test_the_order_is_that_of_the_attacks_whoever_finished_first() -> None:
    right = mask("1")
    made = [
        outcome("random-signs", 0.1, right),
        outcome("fgsm", 0.1, right, "transfer", surrogate=0),
        outcome("fgsm", 0.2, right, "transfer", surrogate=0),
        outcome("fgsm", 0.1, right, "transfer", surrogate=1),
        outcome("pgd", 0.1, right, "white-box"),
        outcome("pgd", 0.1, right, "white-box", model=1),
    ]
    assert in_order(reversed(made)) == made


def test_networks_that_share_a_name_are_one_group() -> None:
    cards = [card("a", mask("1"), 0), card("b", mask("1"), 0), card("a", mask("1"), 1)]
    assert groups(cards) == {"a": [0, 2], "b": [1]}


def test_a_label_tells_networks_of_one_name_apart() -> None:
    cards = [card("a", mask("1"), seed) for seed in (0, 1, 1)] + [card("b", mask("1"))]
    assert [label(cards, index) for index in range(4)] == ["a (seed 0)", "a (number 2)", "a (number 3)", "b"]


def test_keys_keep_the_order_of_their_first_appearance() -> None:
    assert sorted_by_key([3, 1, 4, 1, 5], lambda number: number % 2) == {1: [3, 1, 1, 5], 0: [4]}

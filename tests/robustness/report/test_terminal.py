from __future__ import annotations

import io

import pytest
from made_findings import card, findings, first, outcome, rich_findings
from rich.console import Console

from glr_dist.robustness.report.build import build_report
from glr_dist.robustness.report.terminal import accuracy_table, corruption_table, show_report


def rendered(table: object) -> list[list[str]]:
    file = io.StringIO()
    Console(file=file, width=1000).print(table)
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in file.getvalue().splitlines()]


def test_a_row_for_each_network_and_size() -> None:
    _, head, *lines = rendered(accuracy_table(build_report(rich_findings())))
    assert head[:5] == ["model", "seeds", "clean", "epsilon", "random-signs"]
    assert head[5:9] == ["fgsm (transfer)", "pgd (transfer)", "bpda-pgd (white-box)", "worst"]
    assert head[9:] == ["proved", "proved (intervals)", "proved (program)", "broken", "undecided"]
    assert len(lines) == 6
    assert lines[0][:5] == ["threshold", "3", "96.0% (sd 1.0)", "0.1", "76.0% (sd 1.0)"]
    assert lines[3] == [
        "bp | relu_net",
        "1",
        "97.0%",
        "0.1",
        "78.0%",
        "70.0%",
        "68.0%",
        "58.0%",
        "58.0%",
        "30.0%",
        "0.0%",
        "30.0%",
        "66.0%",
        "4.0%",
    ]


def test_a_network_without_attacks_is_shown_with_its_clean_accuracy() -> None:
    assert rendered(accuracy_table(build_report(findings([card("net", first(90))]))))[2] == ["net", "1", "90.0%", "0"]


def test_an_attack_that_one_network_lacks_is_a_dash() -> None:
    made = findings(
        [card("a", first(9)), card("b", first(9))],
        [outcome("square", 0.1, first(5)), outcome("fgsm", 0.1, first(4), model=1)],
    )
    lines = rendered(accuracy_table(build_report(made)))[2:]
    assert [line[4:] for line in lines] == [["-", "5.0%", "5.0%"], ["4.0%", "-", "4.0%"]]


def test_corruptions_end_with_their_mean() -> None:
    _, head, first_line, *_ = rendered(corruption_table(build_report(rich_findings())))
    assert head == ["model", "contrast", "gaussian", "all"]
    assert first_line == ["threshold", *["81.0% (sd 1.0)"] * 3]


def test_what_cannot_be_believed_is_said_on_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    show_report(build_report(rich_findings()), to_stderr=True)
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = [line for line in err.splitlines() if "not to be believed" in line]
    assert line.startswith(
        "this robustness is not to be believed: threshold: exact <= every attack: seed 0: CONTRADICTION"
    )


def test_what_was_not_measured_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    show_report(build_report(findings([card("net", first(90))], [outcome("bpda-pgd", 0.1, first(40))])))
    assert "not measured: adaptive >= transfer (net)\n" in capsys.readouterr().out


def test_a_failed_check_is_red(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    show_report(build_report(rich_findings()))
    assert "\x1b[1;31mthis robustness is not to be believed" in terminal.getvalue()

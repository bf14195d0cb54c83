from __future__ import annotations

import re
from pathlib import Path

import pytest
from made_findings import card, findings, first, outcome, rich_findings

from glr_dist.robustness.report.build import build_report, write_report
from glr_dist.robustness.report.markdown import as_markdown
from glr_dist.store.storage import Storage


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_report(Storage.at(folder), rich_findings())
    return folder / "report.md"


def test_every_picture_is_shown_and_every_link_leads_to_a_picture(page: Path) -> None:
    links = re.findall(r"\]\((.*?)\)", page.read_text())
    assert sorted(links) == sorted(f"pictures/{file.name}" for file in (page.parent / "pictures").iterdir())
    assert len(links) == 4  # of the three samples, one is no image


def test_every_line_of_a_table_has_as_many_cells_as_its_head(page: Path) -> None:
    tables = [block.splitlines() for block in page.read_text().split("\n\n") if block.startswith("|")]
    assert len(tables) == 7
    for lines in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
        assert set(lines[1]) == set("| -")


def test_the_conditions_are_told(page: Path) -> None:
    text = page.read_text()
    for fact in ("fingerprint: f00d", "samples: 100", "seed: 3", "split: test", "classes: 10"):
        assert f"* {fact}\n" in text
    assert re.search(r"versions: glr\\_dist \S+, python 3\.\d+\.\d+, numpy \d", text)


def test_figures_stand_in_the_tables(page: Path) -> None:
    text = page.read_text()
    assert (
        "| bp \\| relu\\_net | 1 | 97.0% | 0.1 | 58.0% | 48.2 to 67.2 | 30.0% | 21.9 to 39.6 | 0.0% | 30.0% | 66.0% | 4.0% |"
        in text
    )
    assert "| threshold | fgsm | transfer | 0.1 | 2 | 68.0% (sd 1.0) | 65.5 to 70.5 s |" in text
    assert "relu-300 (seed 7) (98.0%, 25.0%)" in text


def test_a_failed_check_stands_in_red_before_everything(page: Path) -> None:
    blocks = page.read_text().split("\n\n")
    assert blocks[1].startswith(
        "> [!CAUTION]\n> **this robustness is not to be believed: threshold: exact \\<= every attack:"
    )
    sound = build_report(findings([card("net", first(90))], [outcome("bpda-pgd", 0.1, first(40))]))
    assert "CAUTION" not in as_markdown(sound)
    assert "not to be believed" not in as_markdown(sound)


def test_without_attacks_there_are_no_empty_tables() -> None:
    text = as_markdown(build_report(findings([card("net", first(90))])))
    assert re.findall("^#+ .*", text, re.MULTILINE) == ["# Robustness", "## Networks", "## Can it be believed?"]
    assert "90.0%" in text

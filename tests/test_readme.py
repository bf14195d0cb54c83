"""README and pages: their Python runs as it stands, their links lead somewhere; command lines are checked elsewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from glr_dist.store.checkpoint import load_checkpoint

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "scripts" / "docs_pages"
README = ROOT / "README.md"
FIRST = {README: "result", PAGES / "own.md": "result", PAGES / "looking.md": "run"}  # what an example leaves in the end


@pytest.mark.parametrize("page", [README, *sorted(PAGES.glob("*.md"))], ids=lambda page: page.stem)
def test_the_python_of_a_page_runs(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    ray_session: None,
) -> None:
    """One block after the other, with a few steps instead of thousands."""
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    assert bool(blocks) == (page in FIRST)
    torch.manual_seed(0)
    names: dict[str, Any] = {
        "x": torch.rand(640, 64),
        "y": torch.arange(640) % 10,
        "x_test": torch.rand(50, 64),
        "y_test": torch.arange(50) % 10,
    }
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(compile(re.sub(r"\bsteps=\d+", "steps=3", block), str(page), "exec"), names)
    if page in FIRST:
        left = names[FIRST[page]]
        place = left.run if FIRST[page] == "result" else left.place
        assert load_checkpoint(tmp_path / place).step == 3
        assert capsys.readouterr().out.strip()


def test_the_front_door_is_short_and_leads_somewhere() -> None:
    text = README.read_text()
    assert len(text.splitlines()) <= 150
    links = re.findall(r"\]\(([^)]+)\)", text)
    local = [link for link in links if "://" not in link]
    assert len(local) > 8
    assert [link for link in local if not (ROOT / link).exists()] == []
    papers = text.partition("## Papers")[2]
    assert len(re.findall(r"^\* .*\]\(https://", papers, re.MULTILINE)) >= 4


def test_the_site_is_built_with_every_key_and_no_dead_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import docs

    from glr_dist.config import Config
    from glr_dist.runs.record import FREE, fixed_values

    docs.make(tmp_path / "site")
    pages = {file.stem for file in (tmp_path / "site").glob("*.html")}
    assert {file.stem for file in PAGES.glob("*.md")} | {"keys"} <= pages
    told = {key for key, _, _ in docs.keys(Config)}
    assert told == {*fixed_values(Config()), *FREE}
    assert (tmp_path / "site/estimator.svg").is_file()


def test_the_figure_is_what_its_script_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import draw_estimator

    for conditioned in (False, True):
        found = draw_estimator.estimates(conditioned)
        error = (found.mean(0) - draw_estimator.exact(draw_estimator.POINTS)).abs()
        standard = found.std(0) / found.shape[0] ** 0.5
        assert bool(
            (error < 4.5 * standard + 1e-6).all()
        )  # at the threshold itself, pairs that are conditioned never err
    spread = [float(draw_estimator.estimates(conditioned).std(0).mean()) for conditioned in (False, True)]
    assert spread[1] < spread[0]
    draw_estimator.main(["--out", str(tmp_path / "again.svg")], standalone_mode=False)
    assert (tmp_path / "again.svg").read_bytes() == (PAGES / "estimator.svg").read_bytes()

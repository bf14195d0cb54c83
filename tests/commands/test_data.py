"""``glr-dist data prepare``: what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import call, refused


@pytest.mark.parametrize(
    ("args", "mentions"),
    [
        (["digit", "out"], ["'digit'", "did you mean 'digits'?"]),
        (["mnist", "out", "--data-root", "none"], ["--data-root", "no mnist"]),
        (["digits", "out", "--shards", "0"], ["shards is 0"]),
        (["digits", "taken"], ["taken", "choose a new folder"]),
        (["digits"], ["OUT"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_prepare_refuses_what_cannot_be(here: Path, args: list[str], mentions: list[str]) -> None:
    (here / "taken").mkdir()
    (here / "taken" / "thesis.tex").write_text("do not lose me")
    before = sorted(here.rglob("*"))
    refused(call("data", "prepare", *args), *mentions)
    assert sorted(here.rglob("*")) == before

"""The command `glr-dist plan`: a table, a picture, JSON; nonsense is refused before anything is measured."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import call, last_json, refused
from small_runs import small_toml


def test_a_plan_goes_up_to_1024_workers_and_is_drawn(tmp_path: Path) -> None:
    config = small_toml(tmp_path / "small.toml")
    picture = tmp_path / "plan.png"
    wide = ("--bandwidth", "1 Gbit/s", "--latency", "0.5ms", "--workers", "3")
    done = call("plan", str(config), *wide, "--seconds", "0.2", "--picture", str(picture), "--json")
    assert done.exit_code == 0, done.output
    told = last_json(done)
    assert told["link"] == {"bandwidth": 125e6, "latency": 0.0005}
    assert (told["work"]["blocks"], told["work"]["losses"]) == (4, 4 * 2 * 8 * 32)
    assert [step["workers"] for step in told["steps"]] == [0, 1, 2, 3, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
    assert all(step["phases"]["wire"] > 0.001 for step in told["steps"][1:])
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "measured here" in done.stderr


@pytest.mark.parametrize(
    ("options", "mentions"),
    [
        (("--bandwidth", "fast"), ["--bandwidth fast", "10Gbit/s"]),
        (("--bandwidth", "10"), ["--bandwidth 10", "units B/s"]),
        (("--bandwidth", "-1GB/s"), ["--bandwidth -1GB/s", "no network is like that"]),
        (("--bandwidth", "0MB/s"), ["--bandwidth 0MB/s", "no network is like that"]),
        (("--bandwidth", "1e400GB/s"), ["--bandwidth 1e400GB/s", "no number"]),
        (("--latency", "3 days"), ["--latency 3 days", "us, ms, s"]),
        (("--latency", "-1ms"), ["--latency -1ms", "0.2ms"]),
        (("--picture", "plan.doc"), ["--picture plan.doc", "png, svg, pdf"]),
        (("--set", "method=bp"), ["method = 'bp'", "--method glr"]),
    ],
)
def test_nonsense_is_refused(options: tuple[str, ...], mentions: list[str]) -> None:
    refused(call("plan", "digits-threshold", *options), *mentions)

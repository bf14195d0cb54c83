from __future__ import annotations

import io
import struct
import sys
from subprocess import run
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from made_findings import card, findings, first, outcome, rich_findings, specimens
from matplotlib.figure import Figure

from glr_dist.robustness.findings import CorruptionOutcome
from glr_dist.robustness.report.build import build_report
from glr_dist.robustness.report.pictures import accuracy_figure, corruption_figure, draw_pictures, specimens_figure


def lines(figure: Figure) -> dict[str, Any]:
    return {line.get_label(): line for line in figure.axes[0].get_lines()}


def test_a_line_for_each_network_and_attack_starts_at_its_clean_accuracy() -> None:
    found = lines(accuracy_figure(build_report(rich_findings())))
    kinds = (
        "random-signs, none",
        "fgsm, transfer",
        "pgd, transfer",
        "bpda-pgd, white-box",
        "exact, exact",
        "worst case",
    )
    assert set(found) == {"chance"} | {f"{model}: {kind}" for model in ("threshold", "bp | relu_net") for kind in kinds}
    fgsm = found["threshold: fgsm, transfer"]  # the worse of two surrogates, mean of three seeds
    assert fgsm.get_xydata().tolist() == [[0, 0.96], [0.1, 0.68], [0.2, 0.28], [0.5, 0.13]]


def test_the_worst_case_is_bold_chance_is_dashed_and_colours_are_the_networks() -> None:
    found = lines(accuracy_figure(build_report(rich_findings())))
    thin = [line for name, line in found.items() if "worst" not in name]
    bold = found["threshold: worst case"]
    assert bold.get_linewidth() >= 2 * max(line.get_linewidth() for line in thin)
    assert (found["chance"].get_linestyle(), set(found["chance"].get_ydata())) == ("--", {0.1})
    colours = {
        name: {line.get_color() for label, line in found.items() if label.startswith(name)} for name in ("thr", "bp")
    }
    assert [len(same) for same in colours.values()] == [1, 1]
    assert colours["thr"] != colours["bp"]
    styles = [str(line._dash_pattern) + str(line.get_marker()) for name, line in found.items() if "bp |" in name]
    assert len(set(styles)) == len(styles) == 6


def test_only_seeds_have_a_band() -> None:
    figure = accuracy_figure(build_report(rich_findings()))
    bands = figure.axes[0].collections
    assert len(bands) == 6  # of the network with three seeds: five attacks and the worst case
    ends = bands[-1].get_paths()[0].vertices
    half = 4.302653 * 0.01 / np.sqrt(3)
    at = ends[np.isclose(ends[:, 0], 0.1), 1]
    assert (at.min(), at.max()) == pytest.approx((0.56 - half, 0.56 + half), abs=1e-5)


def test_the_axis_ends_where_chance_is_reached() -> None:
    attacks = [outcome("square", size, first(left)) for size, left in ((0.1, 50), (0.3, 8), (0.5, 0))]
    noise = [outcome("random-signs", size, first(90)) for size in (0.1, 0.3, 0.5)]

    def reach(*made: Any) -> float:
        return float(accuracy_figure(build_report(findings([card("net", first(95))], made))).axes[0].get_xlim()[1])

    assert reach(*attacks, *noise) == 0.3
    assert reach(*attacks[:1]) == 0.1
    assert reach(outcome("square", 0.0, first(95))) == 1.0


def test_the_axes_are_named() -> None:
    axes = accuracy_figure(build_report(rich_findings())).axes[0]
    assert "epsilon" in axes.get_xlabel()
    assert axes.get_ylabel() == "accuracy"
    assert axes.get_xlim() == (0, 0.5)


@pytest.mark.parametrize("channels", [1, 3])
def test_samples_stand_beside_their_adversaries(channels: int) -> None:
    made = specimens(0, 2, (channels, 5, 4), 0.25)
    figure = specimens_figure(made, 0.25, "title")
    assert figure is not None
    clean, adversarial, moved = figure.axes[3:6]  # the second row
    assert adversarial.get_title() == "1: 1 -> 2"
    assert clean.images[0].get_array().shape == ((5, 4) if channels == 1 else (5, 4, 3))
    np.testing.assert_array_equal(np.moveaxis(made.adversarial[1], 0, -1).squeeze(), adversarial.images[0].get_array())
    shown = moved.images[0]
    assert (shown.get_clim(), shown.get_cmap().name) == ((-0.25, 0.25), "RdBu_r")
    np.testing.assert_array_equal(shown.get_array(), (made.adversarial - made.clean)[1, 0])
    assert [axes.get_xlabel() for axes in figure.axes[3:6]] == ["clean", "adversarial", "perturbation"]


def test_of_the_channels_the_one_that_moved_most_is_shown() -> None:
    made = specimens(0, 1, (3, 1, 1), 0.0)
    made.adversarial[0, :, 0, 0] += np.array([0.1, -0.2, 0.15], np.float32)
    figure = specimens_figure(made, 0.2, "title")
    assert figure is not None
    assert figure.axes[2].images[0].get_array().item() == pytest.approx(-0.2)


@pytest.mark.parametrize("shape", [(64,), (2, 8, 8)])
def test_what_is_no_image_is_not_drawn(shape: tuple[int, ...]) -> None:
    assert specimens_figure(specimens(0, 2, shape, 0.1), 0.1, "title") is None


def test_size_zero_can_be_drawn() -> None:
    assert specimens_figure(specimens(0, 2, (1, 8, 8), 0.0), 0.0, "title") is not None


def test_the_heat_map_has_a_cell_for_each_network_and_corruption() -> None:
    made = findings(
        [card("a", first(90)), card("b", first(80))],
        corruptions=[
            CorruptionOutcome(model=0, corruption="blur", severity=1, right=first(40)),
            CorruptionOutcome(model=0, corruption="blur", severity=5, right=first(20)),
            CorruptionOutcome(model=1, corruption="shear", severity=1, right=first(70)),
        ],
    )
    axes = corruption_figure(build_report(made)).axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["clean", "blur", "shear", "all"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a", "b"]
    assert [text.get_text() for text in axes.texts] == ["90.0", "30.0", "30.0", "80.0", "70.0", "70.0"]


def test_files_are_named_after_what_they_show_and_tell_no_date_or_version() -> None:
    made = rich_findings()
    drawn = draw_pictures(build_report(made), made)
    assert [picture.file for picture in drawn] == [
        "accuracy.png",
        "corruptions.png",
        "samples-00-threshold-seed-0-pgd-at-0.1-from-relu-300-seed-7.png",
        "samples-01-threshold-seed-0-random-signs-at-0.1.png",
    ]
    for picture in drawn:
        assert chunks(picture.png) == {b"IHDR", b"pHYs", b"IDAT", b"IEND"}


def chunks(png: bytes) -> set[bytes]:
    """The kinds of a PNG's chunks; text would be tEXt, a date tIME."""
    file, kinds = io.BytesIO(png[8:]), set()
    while head := file.read(8):
        length, kind = struct.unpack(">I4s", head)
        kinds.add(kind)
        file.seek(length + 4, io.SEEK_CUR)
    return kinds


def test_a_users_settings_and_a_dollar_change_nothing() -> None:
    made = findings([card("$x_1$", first(90))], [outcome("square", 0.1, first(40))])
    report = build_report(made)
    (before,) = draw_pictures(report, made)
    with mpl.rc_context({"axes.facecolor": "red", "font.size": 20}):
        (after,) = draw_pictures(report, made)
    assert before.png == after.png


def test_pyplot_stays_out() -> None:
    code = "import sys, glr_dist.robustness.report.pictures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert run([sys.executable, "-c", code], check=False).returncode == 0

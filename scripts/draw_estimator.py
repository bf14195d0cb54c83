"""Draws scripts/docs_pages/estimator.svg: one Heaviside unit, its loss with and without noise, and estimated derivatives.

    L(z) = 0.2 + 0.8 [z >= 0],  J(z) = E L(z + s eps),  dJ/dz = 0.8 phi(z / s) / s

K copies estimate dJ/dz at each z many times over: the dots are means of the estimates, the bars their standard deviation.
"""

from __future__ import annotations

from pathlib import Path

import click
import torch
from matplotlib.figure import Figure
from torch import Tensor

from glr_dist.core.estimator import advantages, error_signal
from glr_dist.core.noise import cumulative, density
from glr_dist.reporting.style import PAGE, drawn, line_style, rendered

PLACE = Path(__file__).with_name("docs_pages") / "estimator.svg"
SCALE, COPIES, REPEATS = 0.7, 32, 400
POINTS = torch.linspace(-2, 2, 17)


def loss(z: Tensor) -> Tensor:
    """Of one unit: a step, whose derivative is 0 wherever it has one."""
    return 0.2 + 0.8 * z.ge(0).float()


def exact(z: Tensor) -> Tensor:
    """The derivative of the mean loss under noise."""
    return 0.8 * density("gaussian", z / SCALE) / SCALE


def estimates(conditioned: bool) -> Tensor:
    """Estimates of the derivative at POINTS [REPEATS, T], each by COPIES losses in antithetic pairs."""
    torch.manual_seed(0)
    z = POINTS.repeat(REPEATS)[:, None]  # [R, 1]
    eps = torch.randn(COPIES // 2, len(z), 1)
    losses = torch.stack([loss(z + sign * SCALE * eps)[..., 0] for sign in (1, -1)])  # [S, P, R]
    advantage = advantages(losses, "leave-out")
    found = error_signal("gaussian", SCALE, advantage, eps, z if conditioned else None, COPIES)
    return found.view(REPEATS, len(POINTS))


def picture() -> Figure:
    """The figure."""
    figure = Figure(figsize=(PAGE, 2.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    z = torch.linspace(-2.2, 2.2, 400)
    left.plot(z, loss(z), label="loss of one unit", **line_style(6))
    left.plot(z, 0.2 + 0.8 * cumulative("gaussian", z / SCALE), label="its mean under noise", **line_style(0))
    left.set(xlabel="pre-activation z", ylabel="loss")
    left.legend(loc="upper left")
    right.plot(z, exact(z), label="derivative of the mean, exact", **line_style(0))
    for shift, colour, conditioned in ((-0.04, 1, False), (0.04, 2, True)):
        found = estimates(conditioned)
        label = f"{COPIES} losses" + (", conditioned on the bit" if conditioned else "")
        style = {"fmt": "o", "markersize": 2.5, "linewidth": 0.8, "color": line_style(colour)["color"]}
        right.errorbar(POINTS + shift, found.mean(0), found.std(0), label=label, **style)
    right.set(xlabel="pre-activation z", ylabel="derivative")
    right.legend(loc="upper left")
    right.set_ylim(None, 1.15)
    return figure


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=PLACE, show_default=True, help="The file.")
def main(out: Path) -> None:
    """Draw it."""
    figure = drawn(picture)
    assert figure is not None
    out.write_bytes(rendered(figure, "svg"))


if __name__ == "__main__":
    main()

"""What the first layer looks for: its weights as images, read from a checkpoint without building its network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from glr_dist.errors import UserError
from glr_dist.reporting.figures import Picture, picture, sheet
from glr_dist.reporting.story import Story
from glr_dist.reporting.style import COLUMN

_MOST, _ROW = 40, 10  # filters shown, and in a row


def filters_picture(story: Story) -> Picture | None:
    """The filters of a run's newest sound checkpoint; None where its inputs are no images, or there is none."""
    try:
        checkpoint = story.run.newest_sound()
        card = story.run.card()
    except UserError:
        return None
    if checkpoint is None or card is None:
        return None
    weights = ((name, tensor.numpy()) for name, tensor in checkpoint.weights.items() if tensor.is_floating_point())
    found = next(
        ((name, images) for name, values in weights if (images := as_images(values, card.shape)) is not None), None
    )
    if found is None:
        return None
    name, images = found

    def draw() -> Figure:
        return _sheet_of(images[:_MOST])

    shown = min(len(images), _MOST)
    alt = (
        f"Weights of {shown} of the {len(images)} units of {name} in the checkpoint of step {checkpoint.step}, as images of"
        f" {images.shape[1]} by {images.shape[2]} pixels: blue below 0, red above."
    )
    return picture(f"filters-{story.name}", f"First layer of {story.name}", alt, draw)


def as_images(weights: NDArray[np.float32], shape: Sequence[int]) -> NDArray[np.float32] | None:
    """The weights of a first layer as images [N, H, W], of channels the mean; None where they are of no such layer.

    A Linear layer's [N, D] where the inputs are images [C, H, W] of D values, a Conv2d layer's [N, C, H, W].
    """
    if len(shape) != 3:
        return None
    linear = weights.ndim == 2 and weights.shape[1] == int(np.prod(shape))
    conv = weights.ndim == 4 and weights.shape[1] == shape[0] and weights.shape[2] > 1
    if not (linear or conv):
        return None
    images: NDArray[np.float32] = (weights.reshape(-1, *shape) if linear else weights).mean(1)
    return images


def _sheet_of(images: NDArray[np.float32]) -> Figure:
    rows = -(-len(images) // _ROW)
    figure = sheet(COLUMN, COLUMN / _ROW * rows * 1.08)
    limit = float(np.abs(images).max()) or 1.0
    for place, axes in enumerate(figure.subplots(rows, _ROW, squeeze=False).flat):
        axes.set_axis_off()
        if place < len(images):
            axes.imshow(images[place], cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    return figure

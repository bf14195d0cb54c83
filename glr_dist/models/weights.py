"""Putting stored weights into a network that was built for them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from glr_dist.errors import UserError


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], place: str) -> None:
    """Copy a checkpoint's weights into a model.

    Args:
        model: takes them.
        weights: a state_dict.
        place: where they come from, for the message.

    Raises:
        UserError: when they are another model's; names the first tensor that differs.
    """
    expected = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    found = {name: tuple(t.shape) for name, t in weights.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise UserError(
                f"{place}: is a checkpoint of another model: {name} has shape {found.get(name)} there,"
                f" {expected.get(name)} here"
            )
    model.load_state_dict(dict(weights))

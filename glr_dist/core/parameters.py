"""A network's parameters as one flat vector, as they travel, and which of them are trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from glr_dist.core.sites import Site, own_parameters


def trainable_parameters(model: nn.Module, sites: Sequence[Site]) -> dict[str, nn.Parameter]:
    """The parameters that belong to a site and want a gradient, by name in the model's order; the others stay."""
    modules = dict(model.named_modules())
    sited = (modules[site.module] for site in sites)
    owned = {id(p) for layer in sited for p in own_parameters(layer) if p.requires_grad}
    return {name: p for name, p in model.named_parameters() if id(p) in owned}


def flat_parameters(model: nn.Module) -> Tensor:
    """All parameters as one float32 vector in the model's order, detached, on the CPU."""
    return torch.cat([p.detach().float().flatten().cpu() for p in model.parameters()])


@torch.no_grad()
def load_parameters(parameters: Sequence[Tensor], flat: np.ndarray) -> None:
    """Copy a flat vector into all of a model's own parameter tensors (never alias the object store's memory)."""
    for p, part in zip(parameters, shaped(torch.tensor(flat, device=parameters[0].device), parameters), strict=True):
        p.copy_(part)


def shaped(flat: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """A flat vector cut into the shapes of these parameters, views of it; its length must be theirs."""
    parts = flat.split_with_sizes([p.numel() for p in parameters])
    return [part.view_as(p) for part, p in zip(parts, parameters, strict=True)]

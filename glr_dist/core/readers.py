"""What reads a Heaviside site's bits: an affine layer alone, so that a turned bit moves its output by one column.

Found by trying, bit for bit: whatever the bits are, the layer's input is the bits themselves, and with its output held,
nothing else in the network moves. A reader out of sight, a residual connection around the layer and the like are found so.

Shapes: B examples, N units of the site, C' outputs of the reader.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import unfold

from glr_dist.core.sites import Site, tapped

_LARGEST = 2**22  # N * C' of a reader's matrix: 16 MB
_TRIES = 3  # patterns of bits


class BitReader(nn.Module, ABC):
    """A layer of another class than PyTorch's that is affine in its input, and says how."""

    @abstractmethod
    def columns(self) -> Tensor:
        """Row j is how its output moves when input j rises by 1, [N, C']; or a matrix for each label, [labels, N, C']."""


def with_readers(model: nn.Module, sites: Sequence[Site], x: Tensor) -> list[Site]:
    """The sites, each knowing its affine reader and whether it gives the logits; tried with inputs x [B, ...]."""
    found = [replace(site, logits=_is_output(model, sites, index, x)) for index, site in enumerate(sites)]
    return [
        replace(site, reader=index + 1) if site.binary and _reads_alone(model, sites, index, x) else site
        for index, site in enumerate(found)
    ]


def columns(reader: nn.Module, shape: Sequence[int]) -> Tensor:
    """The transposed matrix of a Linear or Conv2d: row j is how its output moves when input j rises by 1, [N, C'].

    That of a `BitReader` is its own affair, and may have one more axis for the labels.

    ``shape``: of its input, for one example.
    """
    if isinstance(reader, BitReader):
        return reader.columns()
    if isinstance(reader, nn.Linear):
        return reader.weight.detach().t()
    assert isinstance(reader, nn.Conv2d) and not isinstance(reader.padding, str)
    weight = reader.weight.detach().flatten(1)  # [maps, taps]
    how = reader.kernel_size, reader.dilation, reader.padding, reader.stride
    taps = _seen_by(tuple(shape), how, str(weight.device))
    matrix = weight.new_zeros(math.prod(shape) + 1, len(weight), taps.shape[1])  # row 0: what padding reads
    maps, places = (torch.arange(count, device=weight.device) for count in matrix.shape[1:])
    matrix[taps.unsqueeze(1), maps[:, None], places] = weight.t().unsqueeze(-1).expand(-1, -1, len(places))
    return matrix[1:].flatten(1)


@lru_cache(maxsize=16)
def _seen_by(shape: tuple[int, ...], how: tuple[Any, ...], device: str) -> Tensor:
    """Which input, counted from 1, each tap of a convolution reads at each place, 0 for padding: int64 [taps, places]."""
    numbers = torch.arange(1, math.prod(shape) + 1, device=device, dtype=torch.float64)
    return unfold(numbers.view(1, *shape), *how)[0].long()


def _affine(model: nn.Module, site: Site, reader: Site) -> bool:
    """Whether a module is a layer that `columns` knows, of the right size."""
    module = model.get_submodule(reader.module)
    if site.size * reader.size > _LARGEST:
        return False
    if isinstance(module, BitReader):
        return len(reader.shape) == 1
    if type(module) is nn.Linear:  # a class of its own may make something else of its weights
        return module.in_features == site.size and len(reader.shape) == 1
    return (
        type(module) is nn.Conv2d
        and module.groups == 1
        and not isinstance(module.padding, str)
        and module.padding_mode == "zeros"
        and len(site.shape) == 3
        and module.in_channels == site.shape[0]
    )


@torch.no_grad()
def _reads_alone(model: nn.Module, sites: Sequence[Site], index: int, x: Tensor) -> bool:
    if index + 1 == len(sites) or not _affine(model, sites[index], sites[index + 1]):
        return False
    reader = model.get_submodule(sites[index + 1].module)
    generator = torch.Generator().manual_seed(0)
    held = torch.randn((len(x), *sites[index + 1].shape), generator=generator).to(x.device)
    after: list[list[Tensor]] = []
    for _ in range(_TRIES):
        bits = torch.randint(0, 2, (len(x), *sites[index].shape), generator=generator).to(x)
        seen: list[Tensor] = []
        inputs: list[Tensor] = []

        def put(number: int, z: Tensor, bits: Tensor = bits, seen: list[Tensor] = seen) -> Tensor | None:
            if number == index:
                return bits - 0.5
            if number == index + 1:
                return held
            seen.append(z.clone())
            return None

        handle = reader.register_forward_pre_hook(lambda module, args, inputs=inputs: inputs.append(args[0]))
        try:
            with tapped(model, sites, put):
                seen.append(model(x))
        finally:
            handle.remove()
        if len(inputs) != 1 or not torch.equal(inputs[0].flatten(1), bits.flatten(1)):
            return False
        after.append(seen)
    return all(torch.equal(a, b) for other in after[1:] for a, b in zip(after[0], other, strict=True))


@torch.no_grad()
def _is_output(model: nn.Module, sites: Sequence[Site], index: int, x: Tensor) -> bool:
    """Whether a site's output is what the network returns."""
    held = torch.randn((len(x), *sites[index].shape), generator=torch.Generator().manual_seed(0)).to(x.device)

    def put(number: int, z: Tensor) -> Tensor | None:
        return held if number == index else None

    with tapped(model, sites, put):
        return torch.equal(model(x), held)

"""Taps: how a forward pass is run with something put in at the noise sites, and what a clean pass leaves there.

Two ways, with the same bits: hooks on the sites' modules serve any network; where the network is one row of modules, a pass
may begin at any site (`Chain`), so what lies before it is computed once for all passes of the same rows.

Shapes: R rows (examples), N a site's outputs, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from glr_dist.core.sites import OnOutput, Site, tapped


class AskedRow(nn.Sequential):
    """A row of modules, of which those that say so (``takes_inputs``) are given the network's inputs beside what they read.

    What they read may hold several copies of all examples, one after the other, of the inputs there is one.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[R, ...] -> [R, C]."""
        here = x
        for part in self:
            here = _called(part, here, x)
        return here


def _called(module: nn.Module, here: Tensor, x: Tensor) -> Tensor:
    found: Tensor = module(here, x) if getattr(module, "takes_inputs", False) else module(here)
    return found


class Taps(ABC):
    """A network that can be run with something put in at its sites; it remembers the clean pass of its latest rows."""

    def __init__(self, model: nn.Module, sites: Sequence[Site]) -> None:
        self.model, self.sites = model, sites
        self._parameters = list(model.parameters())
        self._seen: tuple[Tensor, list[int], list[Tensor]] | None = None  # inputs, versions, the sites' outputs

    @abstractmethod
    def run(self, x: Tensor, on_output: OnOutput, *, first: int | None = None, detach: bool = False) -> Tensor:
        """One forward pass that goes on, at each site, with what ``on_output(site index, output)`` returns.

        Args:
            x: inputs [R, ...].
            on_output: returns a tensor, or None for the output itself.
            first: no site before this one changes its output, and no derivative goes there: the pass may begin at it, with
                the output of the clean pass.
            detach: cut the sites' inputs off the autograd graph.
        """

    def clean(self, x: Tensor) -> list[Tensor]:
        """Each site's output [R, *N] in a pass without noise, a function of its own layer's parameters alone.

        It is kept with its graph, which several derivatives may go through, until parameters or inputs are others.
        """
        versions = [x._version, *[p._version for p in self._parameters]]
        if self._seen is None or self._seen[0] is not x or self._seen[1] != versions:
            with torch.enable_grad():
                self._seen = x, versions, self._clean(x)
        return self._seen[2]

    def _clean(self, x: Tensor) -> list[Tensor]:
        outputs: list[Tensor] = []

        def keep(index: int, z: Tensor) -> Tensor:
            outputs.append(z)
            return z.detach().clone()  # what follows may work in place

        self.run(x, keep, detach=True)
        return outputs


class Hooks(Taps):
    """By forward hooks, for any network; a pass always begins at the inputs."""

    def run(self, x: Tensor, on_output: OnOutput, *, first: int | None = None, detach: bool = False) -> Tensor:
        """See `Taps.run`; refuses a pass that calls a layer more or less often than the probing one."""
        with tapped(self.model, self.sites, on_output, detach=detach):
            return self.model(x)  # type: ignore[no-any-return]


class Chain(Taps):
    """Module by module, for a network that is a row of them."""

    def __init__(self, model: nn.Module, sites: Sequence[Site], steps: Sequence[tuple[nn.Module, int | None]]) -> None:
        """``steps``: the modules in their order, each with the index of the site that its output is."""
        super().__init__(model, sites)
        self._steps = tuple(steps)
        self._after = {site: number + 1 for number, (_, site) in enumerate(steps) if site is not None}

    def run(self, x: Tensor, on_output: OnOutput, *, first: int | None = None, detach: bool = False) -> Tensor:
        """See `Taps.run`."""
        here, begin = x, 0
        if first is not None:
            z, begin = self.clean(x)[first].detach(), self._after[first]
            changed = on_output(first, z)
            here = z.clone() if changed is None else changed  # what follows may work in place
        for module, site in self._steps[begin:]:
            if site is None:
                here = _called(module, here, x)
            else:
                z = _called(module, here.detach() if detach else here, x)
                changed = on_output(site, z)
                here = z if changed is None else changed
        return here


def taps_of(model: nn.Module, sites: Sequence[Site]) -> Taps:
    """The quickest way for a network."""
    if any(site.several for site in sites):
        return Hooks(model, sites)
    steps = list(_steps(model, sites))
    indices = [site for _, site in steps if site is not None]
    return Chain(model, sites, steps) if indices == list(range(len(sites))) else Hooks(model, sites)


def _steps(model: nn.Module, sites: Sequence[Site]) -> Iterator[tuple[nn.Module, int | None]]:
    names = {id(module): name for name, module in model.named_modules()}
    index = {(site.module, site.call): number for number, site in enumerate(sites)}
    calls: Counter[str] = Counter()
    for module in _in_a_row(model):
        name = names[id(module)]
        yield module, index.get((name, calls[name]))
        calls[name] += 1


def _in_a_row(module: nn.Module) -> Iterator[nn.Module]:
    """The modules that a Sequential runs one after the other, Sequentials among them opened; else the module itself."""
    hooked = module._forward_hooks or module._forward_pre_hooks
    own = "forward" in vars(module) or type(module).__call__ is not nn.Sequential.__call__
    row = isinstance(module, nn.Sequential) and type(module).forward in (nn.Sequential.forward, AskedRow.forward)
    if isinstance(module, nn.Sequential) and row and not (hooked or own):
        for part in module:
            yield from _in_a_row(part)
    else:
        yield module

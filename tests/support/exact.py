"""Exact expected losses of small noised networks and their gradients: what the estimator is tested against.

Everything is float64 and shares no code with the package. Networks end in two logits, so that the losses' means over the
noise of the output site have closed forms or are integrals over one variable, the difference of two draws:

* hidden Heaviside units are enumerated: ``E[L] = sum over bit patterns of P(pattern) * E[L | pattern]`` (`over_bits`);
* one hidden unit of any activation is integrated: ``E[L] = integral of f(u - z) L(phi(u)) du`` (`over_line`), where the
  density carries all of the dependence on z, so that L and phi may jump.

Every call of a layer gets parameters of its own, so that `layerwise` can be differentiated call by call.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

VARIANCE = {"gaussian": 1.0, "laplace": 2.0}  # of standard noise
Linear = Callable[[int, int, Tensor], Tensor]  # (site, layer, input) -> pre-activation
Act = Callable[[int, Tensor], Tensor]  # (site, pre-activation) -> activation
Wiring = Callable[[Linear, Act, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network and how to average over its hidden noise.

    Attributes:
        wiring: calls the layers and activations.
        widths: (inputs, outputs) of each layer.
        calls: the layer of each site, in order.
        hidden: the widths of the hidden sites.
        phi: the hidden activation.
        enumerated: whether phi is the Heaviside step, and nothing else reads the hidden sites.
        x: the example's inputs.
        seed: of the parameters; chosen such that no bit is rare and few gradients vanish.
    """

    wiring: Wiring
    widths: Sequence[tuple[int, int]]
    calls: Sequence[int]
    hidden: Sequence[int]
    phi: Callable[[Tensor], Tensor]
    enumerated: bool
    x: Sequence[float]
    seed: int

    def parameters(self) -> list[tuple[Tensor, Tensor]]:
        """(weight, bias) of each layer, drawn anew from the same seed."""
        generator = torch.Generator().manual_seed(self.seed)

        def draw(*shape: int) -> Tensor:
            return 0.8 * torch.randn(shape, generator=generator, dtype=torch.float64)

        return [(draw(outputs, inputs), draw(outputs)) for inputs, outputs in self.widths]


def step(z: Tensor) -> Tensor:
    """1 where z >= 0, else 0."""
    return torch.where(z >= 0, torch.ones_like(z), torch.zeros_like(z))


def cdf(family: str, t: Tensor) -> Tensor:
    """P(eps <= t) of standard noise."""
    if family == "gaussian":
        return 0.5 * torch.erfc(-t / math.sqrt(2.0))
    tail = 0.5 * torch.exp(-t.abs())
    return torch.where(t < 0, tail, 1 - tail)


def density(family: str, t: Tensor) -> Tensor:
    """The density of standard noise."""
    return torch.exp(-t * t / 2) / math.sqrt(2 * math.pi) if family == "gaussian" else 0.5 * torch.exp(-t.abs())


def difference_cdf(family: str, t: Tensor) -> Tensor:
    """P(eps - eps' <= t) of two standard draws."""
    if family == "gaussian":
        return cdf(family, t / math.sqrt(2.0))
    tail = 0.25 * (2 + t.abs()) * torch.exp(-t.abs())
    return torch.where(t < 0, tail, 1 - tail)


def difference_density(family: str, t: Tensor) -> Tensor:
    """The density of the difference of two standard draws."""
    if family == "gaussian":
        return torch.exp(-t * t / 4) / math.sqrt(4 * math.pi)
    return 0.25 * (1 + t.abs()) * torch.exp(-t.abs())


def midpoints(half_width: float, nodes: int) -> tuple[Tensor, float]:
    """Nodes and spacing of the midpoint rule on [-half_width, half_width]; 0 is the edge of two cells."""
    h = 2 * half_width / nodes
    return (torch.arange(nodes, dtype=torch.float64) + 0.5) * h - half_width, h


def users_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """A loss as a user may write it: it jumps, has no upper bound, and is no function of the margin."""
    own = logits.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    other = logits.gather(-1, 1 - labels.unsqueeze(-1)).squeeze(-1)
    return 1.5 * (own < 0.3).to(logits.dtype) + 0.2 * other**2


def mean_loss(loss: str, z: Tensor, label: int, family: str, scale: float | None) -> Tensor:
    """The loss at logits z [..., 2], averaged over the output site's noise, or without noise where scale is None."""
    own, other = z[..., label], z[..., 1 - label]
    margin = other - own
    if scale is None:
        if loss == "zero-one":
            return (margin > 0).to(z.dtype)
        if loss == "cross-entropy":
            return torch.nn.functional.softplus(margin)
        return 1.5 * (own < 0.3).to(z.dtype) + 0.2 * other**2
    if loss == "zero-one":
        return difference_cdf(family, margin / scale)
    if loss == "cross-entropy":
        t, h = midpoints(40.0, 800)
        values = torch.nn.functional.softplus(margin.unsqueeze(-1) + scale * t)
        return (values * difference_density(family, t)).sum(-1) * h
    return 1.5 * cdf(family, (0.3 - own) / scale) + 0.2 * (other**2 + VARIANCE[family] * scale**2)


def expected_loss(
    net: Network,
    calls: Sequence[tuple[Tensor, Tensor]],
    noised: Collection[int],
    loss: str,
    label: int,
    family: str,
    scale: float,
) -> Tensor:
    """E[L] with noise at the sites in ``noised``; ``calls`` holds the parameters of every call."""
    x = torch.tensor(net.x, dtype=torch.float64)
    output_scale = scale if len(net.hidden) in noised else None

    def linear(site: int, layer: int, h: Tensor) -> Tensor:
        weight, bias = calls[site]
        return h @ weight.t() + bias

    def terminal(act: Act) -> Tensor:
        return mean_loss(loss, net.wiring(linear, act, x), label, family, output_scale)

    if net.enumerated:
        return over_bits(terminal, net.hidden, noised, family, scale)
    return over_line(terminal, net.phi, 0 in noised, family, scale, nodes=4000 if output_scale else 400_000)


def over_bits(
    terminal: Callable[[Act], Tensor], hidden: Sequence[int], noised: Collection[int], family: str, scale: float
) -> Tensor:
    """The mean of ``terminal`` over all patterns of hidden bits, each with its probability."""
    total = torch.zeros((), dtype=torch.float64)
    for pattern in itertools.product((0.0, 1.0), repeat=sum(hidden)):
        bits = torch.tensor(pattern, dtype=torch.float64).split(list(hidden))
        chances: list[Tensor] = []

        def act(site: int, z: Tensor, bits: Sequence[Tensor] = bits, chances: list[Tensor] = chances) -> Tensor:
            toward = torch.where(bits[site] > 0, z, -z)  # P(bit) = F(z) or F(-z)
            sure = (bits[site] == step(z)).to(z.dtype)
            chances.append((cdf(family, toward / scale) if site in noised else sure).prod())
            return bits[site]

        value = terminal(act)
        total = total + torch.stack(chances).prod() * value
    return total


def over_line(
    terminal: Callable[[Act], Tensor],
    phi: Callable[[Tensor], Tensor],
    noised: bool,
    family: str,
    scale: float,
    nodes: int,
) -> Tensor:
    """The mean of ``terminal`` over the noise of one hidden unit."""
    if not noised:
        return terminal(lambda site, z: phi(z))
    u, h = midpoints(25.0 * scale, nodes)
    weights: list[Tensor] = []

    def act(site: int, z: Tensor) -> Tensor:
        weights.append(density(family, (u - z) / scale) * h / scale)
        return phi(u).unsqueeze(-1)

    values = terminal(act)
    return (weights[0] * values).sum()


def exact_gradient(net: Network, scheme: str, loss: str, label: int, family: str, scale: float) -> list[Tensor]:
    """D E[L] / d parameters as the scheme defines it: [weight, bias, weight, bias, ...] of the layers.

    ``joint``: all sites noised, all parameters. ``layerwise``: for each site, noise there alone and the parameters of that
    call alone.
    """
    layers = net.parameters()
    gradients = [torch.zeros_like(p) for layer in layers for p in layer]
    sites = range(len(net.calls))
    for noised in [set(sites)] if scheme == "joint" else [{i} for i in sites]:
        calls = [tuple(p.clone().requires_grad_() for p in layers[layer]) for layer in net.calls]
        value = expected_loss(net, calls, noised, loss, label, family, scale)  # type: ignore[arg-type]
        for site in noised:
            parts = torch.autograd.grad(value, calls[site], retain_graph=True, materialize_grads=True)
            for offset, part in enumerate(parts):
                gradients[2 * net.calls[site] + offset] += part
    return gradients


def _chain(linear: Linear, act: Act, x: Tensor) -> Tensor:
    return linear(2, 2, act(1, linear(1, 1, act(0, linear(0, 0, x)))))


def _shared(linear: Linear, act: Act, x: Tensor) -> Tensor:
    h = act(0, linear(0, 0, x))
    return linear(2, 1, act(1, linear(1, 0, h)) + h)


def _one_unit(linear: Linear, act: Act, x: Tensor) -> Tensor:
    return linear(1, 1, act(0, linear(0, 0, x)))


NETWORKS = {
    "two hidden Heaviside layers": Network(
        wiring=_chain, widths=((3, 3), (3, 3), (3, 2)), calls=(0, 1, 2), hidden=(3, 3), phi=step, enumerated=True,
        x=(0.7, -0.4, 1.0), seed=1476,
    ),
    "a Heaviside layer called twice, with a skip": Network(
        wiring=_shared, widths=((3, 3), (3, 2)), calls=(0, 0, 1), hidden=(3, 3), phi=step, enumerated=True,
        x=(0.7, -0.4, 1.0), seed=458,
    ),
    "a sigmoid unit": Network(
        wiring=_one_unit, widths=((2, 1), (1, 2)), calls=(0, 1), hidden=(1,), phi=torch.sigmoid, enumerated=False,
        x=(0.7, -0.4), seed=36,
    ),
    "a step with a skip around it": Network(
        wiring=_one_unit, widths=((2, 1), (1, 2)), calls=(0, 1), hidden=(1,), phi=lambda z: step(z) + 0.5 * z,
        enumerated=False, x=(0.7, -0.4), seed=36,
    ),
}  # fmt: skip

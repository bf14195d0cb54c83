"""Forward passes with one bit turned, from where the turned bit enters.

Three ways, tested equal:

* any network: one more row (or copy under ``vmap``) whose pre-activation has the other sign;
* behind an affine reader (Linear, Conv2d): its output moves by a column of its matrix, and what follows sees a row for each
  flip, so what lies before it is computed once per base draw;
* behind a linear read-out with cross-entropy not even that (`glr_dist.methods.read_out`).

Shapes: M base draws, F flips, R rows (examples), N the site's outputs, C classes, C' a reader's outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from glr_dist.core.losses import check_losses, cross_entropy
from glr_dist.core.noise import cumulative, density
from glr_dist.core.passes import PICKS, SiteNoise, copy_losses, each_copy
from glr_dist.core.readers import columns
from glr_dist.core.units import FlipKind
from glr_dist.methods.method import Net
from glr_dist.methods.read_out import small, turned_read_out


def turned_losses(
    net: Net, kind: FlipKind, noise: SiteNoise, sign: float, x: Tensor, labels: Tensor, where: str
) -> tuple[Tensor, Tensor]:
    """L(1) - L(0) for the base draws of one sign, float32 [M, F, R], and before it which bits they are, where drawn."""
    turn = _Turn(net, kind, noise, sign, labels)
    logits = turn.by_rows(x) if net.fold else turn.by_copies(x)  # [M, 1 + F, R, C]; [M, 1, R, C] for products
    if turn.products:
        weight = turn.matrix[..., kind.first : kind.first + kind.flips, :]
        differences = turned_read_out(logits[:, 0], turn.direction, weight, labels)
        check_losses(differences.flatten(0, 1), (differences.shape[0] * differences.shape[1], len(x)), where)
        return turn.picks, differences
    losses = copy_losses(net.loss, logits.flatten(0, 1), labels)
    check_losses(losses, (logits.shape[0] * logits.shape[1], len(x)), where)
    losses = losses.unflatten(0, logits.shape[:2])
    return turn.picks, (losses[:, 1:] - losses[:, :1]) * turn.direction


class _Turn:
    """The flips of one sign's base draws, on their way through the network."""

    def __init__(self, net: Net, kind: FlipKind, noise: SiteNoise, sign: float, labels: Tensor) -> None:
        self.net, self.kind, self.scale, self.labels = net, kind, sign * net.noise.scale, labels
        self.uniform = cumulative(net.noise.family, sign * noise[PICKS]) if kind.drawn else None
        self.noise = {index: eps for index, eps in noise.items() if index >= 0}
        self.draws, self.site = len(self.noise[kind.site]), net.sites[kind.site]
        self.reader = self.site.reader if net.fold else None
        self.matrix, self.products = torch.empty(0), False
        if self.reader is not None:
            reader = net.sites[self.reader]
            # [N, C'], or one for each label, [labels, N, C']
            self.matrix = self._columns(net.model.get_submodule(reader.module))
            quick = reader.logits and net.loss is cross_entropy and not kind.drawn
            self.products = quick and small(self.matrix)
        self.picks = torch.empty(0)  # [M, F, R]: which bits are turned, where they are drawn
        self.direction = torch.empty(0)  # [M, F, R]: 1 where a turned bit becomes 1, else -1

    def _columns(self, reader: nn.Module) -> Tensor:
        if not isinstance(reader, nn.Conv2d):  # a Linear has them at hand
            return columns(reader, self.site.shape)
        return self.net.kept.of((columns, self.reader), reader.weight, lambda _: columns(reader, self.site.shape))

    def look(self, z: Tensor) -> Tensor:
        """Take in the site's pre-activations, [R, *N] or [M, R, *N]: the base draws' are returned, [M, R, N]."""
        flat, kind = z.flatten(-len(self.site.shape)), self.kind
        base = torch.add(flat, self.noise[kind.site].flatten(2), alpha=self.scale)
        if self.uniform is None:
            turned = base[..., kind.first : kind.first + kind.flips]
        else:
            chances = drawing_weights(self.net, kind, flat)
            picks = systematic(chances.expand_as(base), self.uniform, kind.flips)
            turned, self.picks = base.gather(-1, picks), picks.mT
        self.direction = turned.mT.clone(memory_format=torch.contiguous_format).ge_(0.0).mul_(-2.0).add_(1.0)
        return base

    def turned(self, base: Tensor) -> Tensor:
        """[M, 1 + F, R, N]: the base draws, then each with one element on the other side of 0."""
        rows = base.unsqueeze(1).repeat(1, 1 + self.kind.flips, 1, 1)
        picks = self.picks
        if not self.kind.drawn:
            span = torch.arange(self.kind.first, self.kind.first + self.kind.flips, device=base.device)
            picks = span[:, None].expand_as(self.direction)
        rows[:, 1:].scatter_(-1, picks.unsqueeze(-1), self.direction.unsqueeze(-1))
        return rows

    def moved(self, z: Tensor) -> Tensor:
        """A reader's outputs [M, R, C'] for the base draws and every flip: [M, 1 + F, R, C'].

        Logits lie class by class in memory: over few classes, losses are summed up several times faster so.
        """
        moves, sizes = self._moves(), (len(z), 1 + self.kind.flips, *z.shape[1:])
        if self.reader is not None and self.net.sites[self.reader].logits:
            rows = z.new_empty(sizes[-1], *sizes[:-1]).movedim(0, -1)
        else:
            rows = z.new_empty(sizes)
        rows[:, 0] = z
        torch.addcmul(z.unsqueeze(1), self.direction.unsqueeze(-1), moves, out=rows[:, 1:])
        return rows

    def _moves(self) -> Tensor:
        """How a reader's outputs move with each turned bit, as it becomes 1: [M or 1, F, R or 1, C']."""
        kind, span = self.kind, slice(self.kind.first, self.kind.first + self.kind.flips)
        if self.matrix.dim() == 2:
            return self.matrix[self.picks] if kind.drawn else self.matrix[span, None].unsqueeze(0)
        if kind.drawn:
            return self.matrix[self.labels, self.picks]
        return self.matrix[:, span][self.labels].transpose(0, 1).unsqueeze(0)

    def _by_draw(self, z: Tensor, rows: int) -> Tensor:
        """A site's outputs by base draw, [M, R, *N]; [R, *N] where no noise has reached them yet."""
        return z if len(z) == rows else z.view(self.draws, rows, *z.shape[1:])

    def by_rows(self, x: Tensor) -> Tensor:
        """Logits [M, 1 + F, R, C], flips being further rows of the batch."""
        rows, draws, turned = len(x), self.draws, False

        def on_output(index: int, z: Tensor) -> Tensor | None:
            nonlocal turned
            shape = self.net.sites[index].shape
            if turned:
                if index not in self.noise:
                    return None
                spread = z.unflatten(0, (draws, -1, rows))
                return torch.add(spread, self.noise[index].unsqueeze(1), alpha=self.scale).flatten(0, 2)
            if index == self.kind.site:
                base = self.look(self._by_draw(z, rows))
                if self.reader is not None:
                    return base.reshape(-1, *shape)
                turned = True
                return self.turned(base).reshape(-1, *shape)
            if index in self.noise:
                spread = self._by_draw(z, rows)
                z = torch.add(spread, self.noise[index], alpha=self.scale).flatten(0, 1)
            if index == self.reader and not self.products:
                turned = True
                return self.moved(z.reshape(draws, rows, -1)).reshape(-1, *shape)
            return z if index in self.noise else None

        logits = self.net.taps.run(x, on_output, first=min(self.noise))
        return logits.reshape(draws, -1, rows, logits.shape[-1])

    def by_copies(self, x: Tensor) -> Tensor:
        """As `by_rows`, flips being further copies under ``vmap``: for networks whose copies can't be rows."""
        taps, order = self.net.taps, sorted(self.noise)

        def base(*eps: Tensor) -> Tensor:
            kept: list[Tensor] = []

            def keep(index: int, z: Tensor) -> Tensor | None:
                if index == self.kind.site:
                    kept.append(z)
                return torch.add(z, eps[order.index(index)], alpha=self.scale) if index in self.noise else None

            taps.run(x, keep)
            return kept[0]

        turned = self.turned(self.look(each_copy(base, *(self.noise[i] for i in order))))  # [M, 1 + F, R, N]
        passes = turned.shape[:2]
        others = [i for i in order if i != self.kind.site]

        def one(z_turned: Tensor, *eps: Tensor) -> Tensor:
            def put(index: int, z: Tensor) -> Tensor | None:
                if index == self.kind.site:
                    return z_turned
                return torch.add(z, eps[others.index(index)], alpha=self.scale) if index in self.noise else None

            return taps.run(x, put)

        spread = [
            self.noise[i].unsqueeze(1).expand(-1, passes[1], *self.noise[i].shape[1:]).flatten(0, 1) for i in others
        ]
        logits = each_copy(one, turned.reshape(-1, turned.shape[2], *self.site.shape), *spread)
        return logits.view(*passes, *logits.shape[1:])


def drawing_weights(net: Net, kind: FlipKind, z: Tensor) -> Tensor:
    """By which weights a site's flips are drawn at z, float64 of its shape."""
    return net.kept.of(
        (drawing_weights, kind.site, kind.flips),
        z,
        lambda z: capped_density(net.noise.family, z / net.noise.scale, kind.flips),
    )


def capped_density(family: str, z: Tensor, flips: int) -> Tensor:
    """f(z), z in standard units, cut so that few of so many flips are drawn twice: float64 of z's shape."""
    weights = density(family, z.double())
    for _ in range(3):
        weights = torch.minimum(weights, weights.sum(-1, keepdim=True) / flips)
    return weights


def systematic(weights: Tensor, uniform: Tensor, count: int) -> Tensor:
    """Draw ``count`` numbers, j ``count * weights_j / sum`` times on average: points at equal distances, shifted at random.

    For weights [M, R, N] and uniform numbers [M, R] in [0, 1]: int64 [M, R, count], ascending.
    """
    edges = weights.cumsum(-1)
    steps = torch.arange(count, device=weights.device, dtype=edges.dtype)
    points = (uniform.double().unsqueeze(-1) + steps) * (edges[..., -1:] / count)
    return torch.searchsorted(edges, points, right=True).clamp_max_(weights.shape[-1] - 1)

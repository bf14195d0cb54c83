"""Method ``glr``: gradients from losses under noise on the neurons, by one of several schemes.

Peng, Xiao, Heidergott, Hong and Lam, 2022, "A new likelihood ratio method for training artificial neural networks".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from glr_dist.core.config import TURNING, EstimatorConfig
from glr_dist.core.losses import check_losses, cross_entropy, per_batch
from glr_dist.core.passes import SiteNoise, copy_losses, noisy_logits
from glr_dist.core.sites import Site
from glr_dist.core.units import ALL_SITES, FlipKind, UnitKind
from glr_dist.errors import UserError
from glr_dist.methods.flips import flips_gradient, flips_kinds, flips_losses, joint_flips_gradient
from glr_dist.methods.joint import joint_gradient, joint_kinds
from glr_dist.methods.layerwise import layerwise_gradient, layerwise_kinds
from glr_dist.methods.method import Gradient, Method, Net, Observed, register, signed_losses
from glr_dist.methods.read_out import noisy_read_out

_KINDS: dict[str, Callable[[Sequence[Site], EstimatorConfig], list[UnitKind]]] = {
    "layerwise": layerwise_kinds,
    "joint": joint_kinds,
    "flips": flips_kinds,
    "joint-flips": flips_kinds,
}
_GRADIENTS: dict[str, Callable[[Net, Tensor, Sequence[Observed]], list[Tensor]]] = {
    "layerwise": layerwise_gradient,
    "joint": joint_gradient,
    "flips": flips_gradient,
    "joint-flips": joint_flips_gradient,
}


class LikelihoodRatio(Method):
    """The likelihood-ratio gradient; ``estimator.scheme`` says which sites are noised together."""

    name = "glr"
    observes = True
    noises = "neurons"

    def kinds(self, sites: Sequence[Site], parameters: int, estimator: EstimatorConfig) -> list[UnitKind]:
        """Those of the scheme."""
        return _KINDS[estimator.scheme](sites, estimator)

    def losses(self, net: Net, kind: UnitKind, noise: SiteNoise, x: Tensor, labels: Tensor, where: str) -> Tensor:
        """Of noisy passes, [K, R], or the differences that turned bits make."""
        if isinstance(kind, FlipKind):
            return flips_losses(net, kind, noise, x, labels, where)

        if kind.site != ALL_SITES and net.sites[kind.site].logits:  # nothing follows but the loss
            z = net.taps.clean(x)[kind.site].detach()
            losses = _at_the_logits(net, z, noise[kind.site], labels, kind.signs)
            check_losses(losses, kind.losses(len(noise[kind.site]), len(x)), where)
            return losses

        def evaluate(sign: float) -> Tensor:
            scale = sign * net.noise.scale
            logits = noisy_logits(net.taps, noise, scale, x, fold=net.fold, from_clean=True)
            return copy_losses(net.loss, logits, labels)

        return signed_losses(kind, noise, len(x), where, evaluate)

    def gradient(self, net: Net, x: Tensor, labels: Tensor, units: Sequence[Observed], where: str) -> Gradient:
        """That of the scheme; where a loss is the whole batch's, all of it is each row's."""
        parts = _GRADIENTS[net.estimator.scheme](net, x, units)
        return Gradient([part * len(x) for part in parts] if units[0].kind.batch else parts)

    def refuse(self, net: Net, x: Tensor, labels: Tensor) -> None:
        """Refuse to turn bits of many examples at once for a loss that is all of theirs."""
        if per_batch(net.loss) and net.estimator.scheme in TURNING:
            raise UserError(
                f"estimator.scheme = {net.estimator.scheme!r}: turns bits example by example, and the loss is that of a"
                " whole batch; use estimator.scheme = 'joint', or --method es"
            )


def _at_the_logits(net: Net, z: Tensor, eps: Tensor, labels: Tensor, signs: int) -> Tensor:
    """The losses of logits z [R, C] with noise eps [P, R, C] on them: [S * P, R]."""
    scale = net.noise.scale
    if net.loss is cross_entropy and (losses := noisy_read_out(z, eps, scale, labels, signs)) is not None:
        return losses
    noisy = z.new_empty(z.shape[1], signs, *eps.shape[:2])  # classes lie farthest apart: losses sum faster over them so
    for number, sign in enumerate((1.0, -1.0)[:signs]):
        torch.add(z.t().unsqueeze(1), eps.movedim(-1, 0), alpha=sign * scale, out=noisy[:, number])
    return copy_losses(net.loss, noisy.flatten(1, 2).movedim(0, -1), labels)


register(LikelihoodRatio())

"""The control: fair signs that depend on the sample alone, and the first draw that fools."""

from __future__ import annotations

import numpy as np
import torch
from planted import grey, planted_threshold
from small_images import images, network
from torch import Tensor

from glr_dist.attacks.ball import fooled
from glr_dist.attacks.random_signs import RandomSigns

SEED = np.random.SeedSequence(11)


def test_random_signs_depend_on_the_sample_alone() -> None:
    net, (x, labels) = network("sigmoid"), images()
    labels = net(x).argmax(1)
    together = RandomSigns(epsilon=0.15, draws=130).run(net, x, labels, SEED).x
    order = torch.tensor([7, 2, 11, 0])
    apart = RandomSigns(epsilon=0.15, draws=130).run(net, x[order], labels[order], SEED).x
    hits = fooled(net, together, labels)
    assert hits.any()
    assert not hits.all()
    assert torch.equal(apart, together[order])
    inside = (x > 0.16) & (x < 0.84)
    torch.testing.assert_close((together - x).abs()[inside], torch.full((int(inside.sum()),), 0.15))


def test_random_signs_are_fair() -> None:
    x, labels = grey(3)
    made = RandomSigns(epsilon=0.1, draws=1).run(planted_threshold(0.5), x, labels, SEED).x > x
    assert abs(int(made.sum()) - 96) < 35  # binomial(192, 1/2): 5 standard deviations


def test_random_signs_keep_the_first_draw_that_fools() -> None:
    x, labels = grey(1)

    def net(z: Tensor) -> Tensor:  # class 1 where the first two pixels both rise: one draw in four
        return torch.stack([torch.full((len(z),), 0.5), ((z[:, 0] > 0.5) & (z[:, 1] > 0.5)).float()], 1)

    hits = [
        fooled(net, RandomSigns(epsilon=0.2, draws=n).run(net, x, labels, SEED).x, labels).item() for n in range(1, 30)
    ]
    first = hits.index(True)
    assert hits == [False] * first + [True] * (29 - first)

"""FGSM and PGD against foolbox and NumPy, restarts, and samples without a gradient."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from by_hand import numpy_gradient
from planted import PIXELS, grey
from small_images import images, network
from torch import Tensor

from glr_dist.attacks.ascent import fgsm, pgd
from glr_dist.attacks.attack import named_attack
from glr_dist.attacks.ball import fooled
from glr_dist.models.networks import MLP

SEED = np.random.SeedSequence(11)


SIZES = (0.0, 0.03, 0.1, 0.2, 0.3)


@pytest.mark.skipif(shutil.which("git") is None, reason="foolbox asks git for its version on import")
@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")  # foolbox's imports from SciPy
@pytest.mark.parametrize("kind", ["relu", "sigmoid", "conv"])
@pytest.mark.parametrize("epsilon", SIZES)
def test_fgsm_and_pgd_are_those_of_foolbox(kind: str, epsilon: float) -> None:
    import foolbox

    net = network(kind).eval()
    x, labels = images()
    theirs = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    expected = foolbox.attacks.LinfFastGradientAttack().run(theirs, x, labels, epsilon=epsilon)
    torch.testing.assert_close(fgsm(net, x, labels, epsilon), expected, rtol=0.0, atol=1e-6)

    attack = foolbox.attacks.LinfPGD(abs_stepsize=0.01, steps=40, random_start=False)
    expected = attack.run(theirs, x, labels, epsilon=epsilon)
    found = pgd(net, x, labels, epsilon, steps=40, step_size=0.01, restarts=1, rng=None)
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-6)


def test_fgsm_follows_numpys_gradient() -> None:
    torch.manual_seed(2)
    net = MLP(PIXELS, [9], 3, "tanh")
    x, labels = grey(5)
    expected = x.double().numpy() + 0.1 * np.sign(numpy_gradient(net, x, labels))
    np.testing.assert_allclose(fgsm(net, x, labels, 0.1).numpy(), expected, atol=1e-6)


def test_a_pixel_that_the_network_ignores_stays() -> None:
    net = network("relu")
    with torch.no_grad():
        net[1].weight[:, 17] = 0.0
    x, labels = images()
    for made in (fgsm(net, x, labels, 0.2), pgd(net, x, labels, 0.2, steps=5, step_size=0.1, restarts=1, rng=None)):
        assert torch.equal(made.flatten(1)[:, 17], x.flatten(1)[:, 17])
        assert not torch.equal(made.flatten(1)[:, 16], x.flatten(1)[:, 16])


def test_samples_without_a_gradient_are_counted() -> None:
    x, _ = images(4)
    labels = torch.tensor([0, 1, 0, 0])
    weight = torch.zeros(64, 3)
    weight[:, 0] = 100.0
    found = named_attack("fgsm", epsilon=0.1).run(lambda z: z.flatten(1) @ weight, x, labels, SEED)
    assert found.without_gradient == 3  # cross-entropy is 0 in float32 for class 0
    assert torch.equal(found.x[0], x[0])


def test_restarts_keep_what_has_fooled() -> None:
    x, labels = grey(40)

    def net(z: Tensor) -> Tensor:  # class 1 where the first pixel is far up; no slope where it is down
        first = 10.0 * (z[:, 0] - x[0, 0])
        return torch.stack([torch.full_like(first, 0.5), first * first * (first > 0)], 1)

    def hits(restarts: int) -> Tensor:
        rng = np.random.default_rng(3)
        made = pgd(net, x, labels, 0.08, steps=2, step_size=0.01, restarts=restarts, rng=rng)
        return fooled(net, made, labels)

    one, many = hits(1), hits(12)
    assert bool((many >= one).all())
    assert one.any()
    assert not one.all()
    assert many.sum() > one.sum()


def test_pgd_moves_a_random_part_of_the_inputs_after_its_first_step() -> None:
    weight = torch.from_numpy(np.random.default_rng(0).choice([-1.0, 1.0], 4000).astype(np.float32))
    x = torch.full((1, 4000), 0.5)

    def line(z: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.zeros(len(z)), z @ weight / 4000], dim=1)  # the gradient's signs are those of weight

    start = pgd(
        line,
        x,
        torch.zeros(1, dtype=torch.int64),
        0.4,
        step_size=0.01,
        restarts=1,
        steps=0,
        rng=np.random.default_rng(5),
    )
    for part in (0.25, 1.0):
        rng = np.random.default_rng(5)
        end = pgd(
            line, x, torch.zeros(1, dtype=torch.int64), 0.4, step_size=0.01, restarts=1, steps=3, rng=rng, part=part
        )
        inner = (start - 0.5).abs() < 0.35  # far from the ball's edge
        moves = ((end - start) * weight / 0.01)[inner].round()
        assert set(moves.tolist()) <= {1.0, 2.0, 3.0}  # all move first, then each step moves a part
        assert float(moves.mean()) == pytest.approx(1 + 2 * part, abs=4 * (2 * part * (1 - part) / 3000) ** 0.5 + 1e-6)

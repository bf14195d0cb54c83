"""FGSM and PGD against foolbox and NumPy, the ball, planted adversaries, and attacks as functions of their seed."""

from __future__ import annotations

import math
import shutil
from typing import Any

import numpy as np
import pytest
import torch
from by_hand import numpy_gradient
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import PIXELS, SIGNS, grey, planted_threshold
from torch import Tensor, nn

from glr_dist.attacks.ascent import fgsm, pgd
from glr_dist.attacks.attack import named_attack
from glr_dist.attacks.ball import check_images, fooled
from glr_dist.attacks.random_signs import RandomSigns
from glr_dist.attacks.stand_in import BpdaPgd, EotPgd
from glr_dist.core.activations import heaviside
from glr_dist.errors import UserError
from glr_dist.models.networks import MLP, ConvNet

SIZES = (0.0, 0.03, 0.1, 0.2, 0.3)
SEED = np.random.SeedSequence(11)


def network(kind: str) -> nn.Module:
    torch.manual_seed(1)
    if kind == "conv":
        return ConvNet((1, 8, 8), (6,), 3, 1, 10, "relu")
    return MLP(64, [20], 10, kind)


def images(count: int = 12) -> tuple[Tensor, Tensor]:
    """[count, 1, 8, 8] with pixels at 0 and 1 among them."""
    rng = np.random.default_rng(5)
    x = np.clip(rng.normal(0.5, 0.5, (count, 1, 8, 8)), 0.0, 1.0).astype(np.float32)
    return torch.from_numpy(x), torch.from_numpy(rng.integers(0, 10, count))


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


ATTACKS: dict[str, dict[str, Any]] = {
    "random-signs": {"draws": 60},
    "fgsm": {},
    "pgd": {"steps": 4, "restarts": 2},
    "bpda-pgd": {"steps": 4, "restarts": 2, "slopes": (1.0, 5.0)},
    "eot-pgd": {"steps": 3, "draws": 2, "slopes": (1.0,)},
}


@pytest.mark.parametrize("name", ATTACKS)
def test_size_zero_returns_the_input_bit_for_bit(name: str) -> None:
    x, labels = images()
    x[0, 0, 0, 0] = -0.0
    net = network("heaviside" if "bpda" in name else "relu")
    made = named_attack(name, epsilon=0.0, **ATTACKS[name]).run(net, x, labels, SEED).x
    assert np.array_equal(made.numpy().view(np.uint32), x.numpy().view(np.uint32))
    assert made.data_ptr() != x.data_ptr()


@pytest.mark.parametrize("name", ATTACKS)
@settings(max_examples=12)
@given(epsilon=st.floats(0.0, 2.0), seed=st.integers(0, 2**32), dark=st.booleans())
def test_all_stay_in_the_ball_and_in_range(name: str, epsilon: float, seed: int, dark: bool) -> None:
    x, labels = images(4)
    x = x * 1e-4 if dark else x
    clean = x.clone()
    config = named_attack(name, epsilon=epsilon, **ATTACKS[name])
    made = config.run(network("relu"), x, labels, np.random.SeedSequence(seed)).x
    assert made.dtype == torch.float32
    assert made.shape == x.shape
    assert made.min() >= 0.0
    assert made.max() <= 1.0
    assert (made.double() - x.double()).abs().max() <= epsilon + 1e-6
    assert torch.equal(x, clean)


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_a_function_of_its_seed(name: str) -> None:
    x, labels = images()
    net = network("sigmoid")
    seed = np.random.SeedSequence(4, spawn_key=(9,))
    config = named_attack(name, epsilon=0.02, step_size=0.003, **ATTACKS[name])
    first, second = (config.run(net, x, labels, seed) for _ in range(2))
    assert torch.equal(first.x, second.x)
    assert first.queries == second.queries
    other = config.run(net, x, labels, np.random.SeedSequence(4, spawn_key=(10,)))
    assert torch.equal(first.x, other.x) == (name == "fgsm")


def test_queries_are_the_forward_passes() -> None:
    net, (x, labels) = network("relu"), images()
    labels = net(x).argmin(1)  # never fooled: no restart comes to an early end
    right = net(x).argmax(1)
    passes = []

    def counting(z: Tensor) -> Tensor:
        passes.append(len(z))
        return net(z)

    pgd_config = named_attack("pgd", epsilon=1e-6, steps=7, restarts=1)
    assert pgd_config.run(net, x, labels, SEED).queries == 7
    signs = named_attack("random-signs", epsilon=1e-6, draws=120)
    assert signs.run(counting, x, right, SEED).queries == 120
    assert sum(passes) == 120 * len(x)
    assert max(passes) <= 50 * len(x)  # in rounds: memory


def test_samples_without_a_gradient_are_counted() -> None:
    x, _ = images(4)
    labels = torch.tensor([0, 1, 0, 0])
    weight = torch.zeros(64, 3)
    weight[:, 0] = 100.0
    found = named_attack("fgsm", epsilon=0.1).run(lambda z: z.flatten(1) @ weight, x, labels, SEED)
    assert found.without_gradient == 3  # cross-entropy is 0 in float32 for class 0
    assert torch.equal(found.x[0], x[0])


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


def bpda(net: nn.Module, x: Tensor, labels: Tensor, epsilon: float) -> Tensor:
    attack = BpdaPgd(epsilon=epsilon, slopes=(1.0,), step_size=epsilon / 10)
    return attack.run(net, x, labels, SEED).x


def test_bpda_finds_the_adversary_that_fgsm_cannot_see() -> None:
    x, labels = grey(6)
    net = planted_threshold(0.08)
    with pytest.raises(UserError, match="no gradient"):
        fgsm(net, x, labels, 0.1)
    with pytest.raises(UserError, match="no gradient"):
        named_attack("pgd", epsilon=0.1).run(net, x, labels, SEED)
    assert not fooled(net, RandomSigns(epsilon=0.1, draws=200).run(net, x, labels, SEED).x, labels).any()
    made = bpda(net, x, labels, 0.1)
    assert fooled(net, made, labels).all()
    assert ((made - x) * SIGNS).sum(1).min() > 0.05 * PIXELS
    assert not fooled(net, bpda(net, x, labels, 0.05), labels).any()  # the adversary is 0.07 away at least


def test_of_several_slopes_the_one_with_a_gradient_does_it() -> None:
    x, labels = grey(4)
    net = planted_threshold(0.08)
    with torch.no_grad():  # the same function, but slopes of 1 and more are all zero in float32
        net[0].weight.mul_(1000.0)
        net[0].bias.mul_(1000.0)
    config = named_attack("bpda-pgd", epsilon=0.1, slopes=(10.0, 0.001), steps=20)
    found = config.run(net, x, labels, SEED)
    assert fooled(net, found.x, labels).all()
    assert found.without_gradient == 0
    with pytest.raises(UserError, match=r"with slopes \[10\.0\].*--attack square"):
        named_attack("bpda-pgd", epsilon=0.1, slopes=(10.0,)).run(net, x, labels, SEED)


def test_a_stand_in_does_not_help_a_foreign_step() -> None:
    x, labels = grey(2)
    with pytest.raises(UserError, match="only glr_dist's Heaviside units"):
        bpda(nn.Sequential(nn.Linear(PIXELS, 4), Sign(), nn.Linear(4, 2)), x, labels, 0.1)


class Sign(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z.sign()


class Noisy:
    """A planted unit behind noise so large that one draw's gradient and class are often wrong."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(8)
        self.calls = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        noise = torch.from_numpy(self.rng.normal(0.0, 2.0, (len(x), 1)).astype(np.float32))
        bit = heaviside((x - 0.5) @ SIGNS[:, None] - 3.0 + noise)
        return torch.cat([0.5 - bit, bit - 0.5], 1)


def test_eot_breaks_a_network_whose_noise_stays_on() -> None:
    x, labels = grey(5)
    net = Noisy()
    attack = EotPgd(epsilon=0.1, draws=8, slopes=(1.0,), steps=20, step_size=0.02, restarts=1)
    found = attack.run(net, x, labels, SEED)
    made = found.x
    assert net.calls == 1 + 20 * 8  # one run: to refuse, then each step's draws
    assert found.queries == 20 * 8  # of which the look at the clean samples is none of the attack's
    wrong = torch.stack([fooled(Noisy(), z[None].repeat(400, 1), labels[:1].repeat(400)).float().mean() for z in made])
    clean = fooled(Noisy(), x[:1].repeat(400, 1), labels[:1].repeat(400)).float().mean()
    # P(bit) = Phi((0.1 * 64 - 3) / 2) = 0.955 at the best point, Phi(-1.5) = 0.067 at grey
    assert clean < 0.12
    assert wrong.min() > 0.9


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


def test_equal_logits_go_to_the_first_class() -> None:
    tied = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    assert fooled(lambda x: tied, torch.zeros(2, 1), torch.tensor([0, 0])).tolist() == [False, True]
    assert fooled(lambda x: tied, torch.zeros(2, 1), torch.tensor([1, 1])).tolist() == [True, False]


def test_attacks_run_in_evaluation_mode_and_give_the_flags_back() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Dropout(0.9), nn.Linear(8, 10)).train()
    x, labels = images()
    for name in ATTACKS:
        config = named_attack(name, epsilon=0.1, **ATTACKS[name])
        first, second = (config.run(net, x, labels, SEED).x for _ in range(2))
        assert torch.equal(first, second)
        assert all(module.training for module in net.modules())
        assert all(p.grad is None and p.requires_grad for p in net.parameters())


@pytest.mark.parametrize(
    ("x", "told"),
    [
        (torch.zeros(2, 4, dtype=torch.uint8), "uint8; must be float32"),
        (torch.zeros(2, 4, dtype=torch.float64), "float64; must be float32"),
        (torch.zeros(4), r"shape \[4\]"),
        (torch.zeros(0, 4), r"shape \[0, 4\] holds none"),
        (torch.tensor([[0.0, math.nan]]), "NaN"),
        (torch.tensor([[0.0, 255.0]]), r"pixels from 0 to 255; they must be in \[0, 1\]"),
        (torch.tensor([[-0.1, 1.0]]), r"pixels from -0\.1 to 1"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(x: Tensor, told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        check_images(x)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("epsilon", [-0.1, math.nan, math.inf])
def test_a_ball_without_a_size_is_refused(epsilon: float) -> None:
    x, labels = images(2)
    with pytest.raises(UserError, match="--epsilon"):
        fgsm(network("relu"), x, labels, epsilon)


def test_labels_of_another_kind_are_refused() -> None:
    x, labels = images(2)
    for wrong in (labels.int(), labels[:1], labels.float()):
        with pytest.raises(UserError, match=r"labels: .* must be int64 \[2\]"):
            named_attack("fgsm", epsilon=0.1).run(network("relu"), x, wrong, SEED)


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


def test_settings_are_told_in_words() -> None:
    assert named_attack("pgd", epsilon=0.1).words == "40 steps, 1 restart"
    attack = named_attack("eot-pgd", epsilon=0.1, steps=10, step_size=0.01, restarts=3, slopes=(1.0, 2.5), draws=8)
    assert attack.words == "10 steps of 0.01, 3 restarts, slopes 1, 2.5, 8 draws"
    assert named_attack("fgsm", epsilon=0.1).words == ""
    assert named_attack("random-signs", epsilon=0.1).words == "1000 draws"
    assert named_attack("random-signs", epsilon=0.1, draws=1).words == "1 draw"
    assert named_attack("eot-pgd", epsilon=0.1).words.endswith("16 draws")


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        ("fgms", {}, "--attack 'fgms': unknown; did you mean 'fgsm'"),
        ("fgsm", {"epsilon": -0.1}, "--epsilon -0.1: must be a finite number"),
        ("fgsm", {"epsilon": math.nan}, "--epsilon nan"),
        ("pgd", {"steps": 0}, "--steps 0: must be at least 1"),
        ("bpda-pgd", {"restarts": 0}, "--restarts 0: must be at least 1"),
        ("eot-pgd", {"step_size": math.inf}, "--step-size inf: must be a finite number"),
        ("eot-pgd", {"draws": 0}, "--draws 0: must be at least 1"),
        ("eot-pgd", {"slopes": ()}, r"slopes \[\]: give one or more"),
        ("bpda-pgd", {"slopes": (1.0, 0.0)}, "give one or more numbers above 0"),
        ("random-signs", {"draws": 0}, "--draws 0: must be at least 1"),
        ("square", {"queries": 0}, "--queries 0: must be at least 1"),
        ("exact", {"seconds": -1.0}, "--seconds-per-sample -1.0: must be a finite number"),
        ("pgd", {"stesp": 3}, "stesp: no attack has such a setting"),
    ],
)
def test_settings_out_of_range_are_refused_in_one_line(name: str, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        named_attack(name, **{"epsilon": 0.1, **settings})
    assert "\n" not in str(caught.value)


def test_a_stand_in_starts_three_times_for_each_slope_wherever_it_is_made() -> None:
    assert BpdaPgd(epsilon=0.1).restarts == named_attack("bpda-pgd", 0.1).restarts == 3


def test_seeds_hang_on_the_text_that_they_always_had() -> None:
    """That of one class with all settings of all attacks, those of others in the same command among them."""
    assert named_attack("random-signs", 0.05, queries=200).seed_text() == (
        '{"draws": 0, "epsilon": 0.05, "name": "random-signs", "queries": 200, "restarts": 1, "seconds": 60.0,'
        ' "slopes": [1.0, 2.0, 5.0, 10.0], "step_size": 0.0, "steps": 40}'
    )
    assert '"draws": 7' in named_attack("random-signs", 0.05, draws=7).seed_text()
    assert named_attack("fgsm", 0.05, queries=200).settings() == {}

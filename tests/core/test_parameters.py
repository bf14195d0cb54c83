"""Parameters as one vector: in the model's order, there and back, and which of them are trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from shared_layer import Shared

from glr_dist.core.parameters import flat_parameters, load_parameters, shaped, trainable_parameters
from glr_dist.core.probing import find_sites


def test_a_vector_holds_every_parameter_in_the_models_order() -> None:
    model = Shared()
    flat = flat_parameters(model)
    assert torch.equal(flat, torch.nn.utils.parameters_to_vector(model.parameters()))
    assert [part.shape for part in shaped(flat, list(model.parameters()))] == [(3, 3), (3,), (2, 3), (2,)]


def test_loaded_values_are_copies() -> None:
    model, values = Shared(), np.arange(20, dtype=np.float32)
    before = list(model.parameters())
    load_parameters(list(model.parameters()), values)
    values[:] = -1.0
    assert flat_parameters(model).tolist() == list(range(20))
    assert all(p is q for p, q in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("size", [19, 21])
def test_a_vector_of_another_length_is_nobodys(size: int) -> None:
    with pytest.raises(RuntimeError):
        load_parameters(list(Shared().parameters()), np.zeros(size, np.float32))


def test_trained_is_what_belongs_to_a_site_and_wants_a_gradient() -> None:
    model = Shared()
    assert list(trainable_parameters(model, find_sites(model, (3,)))) == [
        "core.weight",
        "core.bias",
        "last.weight",
        "last.bias",
    ]
    model.core.bias.requires_grad_(False)
    assert list(trainable_parameters(model, find_sites(model, (3,), ["core"]))) == ["core.weight"]

"""What was made of a tensor is made anew when that is another one, or was written to."""

from __future__ import annotations

import torch
from torch import Tensor

from glr_dist.core.kept import Kept


def test_a_result_is_kept_while_its_source_stays_as_it_is() -> None:
    kept, made = Kept(), []

    def double(x: Tensor) -> Tensor:
        made.append(x)
        return 2 * x

    source = torch.arange(6.0).view(2, 3)
    first = kept.of("a", source, double)
    assert kept.of("a", source.detach(), double) is first  # a view of the same memory
    assert torch.equal(kept.of("b", source, double), first) and len(made) == 2  # keys don't know of each other
    source.add_(1.0)
    assert torch.equal(kept.of("a", source, double), 2 * source)
    assert torch.equal(kept.of("a", source.t(), double), 2 * source.t())
    assert torch.equal(kept.of("a", source[:1], double), 2 * source[:1])


def test_memory_of_a_source_is_not_taken_for_another_tensor() -> None:
    kept = Kept()
    for number in range(50):  # each would be given the memory that the one before it has left
        source = torch.full((1000,), float(number))
        assert float(kept.of("a", source, torch.sum)) == 1000.0 * number
        del source

"""What training rests on and no type tells, found by trying: a network is a function of each example alone.

* The same input gives the same bits again, whatever came between: else no work unit could be run twice.
* A pass moves no parameter, no buffer and not its input.
* One example's output depends neither on the others nor on its place among them, nor on how many there are: copies and
  blocks become batches of any size.
* A gradient reaches each parameter that is to be trained: through its own layer, or, for autograd, from the outputs.

Shapes: B examples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from glr_dist.core.activations import straight_through
from glr_dist.core.sites import Site, tapped
from glr_dist.errors import UserError, blamed

_MOST_ROWS = 1025
_MOST_VALUES = 2**22  # of the inputs of one pass: 16 MB
_TRIES = 3

_Trace = list[tuple[str, list[Tensor], list[Tensor]]]  # of every module, as it returns: name, inputs, outputs
_Same = Callable[[Tensor, Tensor], bool]


def refuse_misbehaviour(model: nn.Module, x: Tensor) -> None:
    """Refuse a network that is no function of each example alone, tried with inputs x [B, ...], two at least.

    Raises:
        UserError: naming the layer and what it does; parameters and buffers are as they were.
    """
    before = {name: values.clone() for name, values in _state(model).items()}
    try:
        with torch.no_grad():
            model(x.clone())
            _refuse_moved(model, before)
            _refuse_memory(model, x)
            _refuse_mixing(model, x)
            _refuse_places(model, x)
    finally:
        with torch.no_grad():
            for name, values in _state(model).items():
                if not _same(values, before[name]):
                    values.copy_(before[name])


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _refuse_memory(model: nn.Module, x: Tensor) -> None:
    kept, drawn = x.clone(), torch.get_rng_state()
    first = _trace(model, x)
    if not _same(x, kept):
        raise UserError(f"model: {_layer(model, '')} changes its input in place, which others read too; let it copy it")
    if not torch.equal(drawn, torch.get_rng_state()):  # also where these inputs don't show it
        raise UserError(
            f"model: {_layer(model, _drawing(model, x))} draws noise of its own, so the same input may give another output"
            " the second time; leave it out, or put it in eval mode: training adds the noise that it knows of"
        )
    model(x.flip(0))  # other values,
    model(x.flip(0)[:-1])  # and another number of examples
    for _ in range(2):
        again = _trace(model, kept.clone())
        name = _culprit(first, again, _same)
        if name is None:
            continue
        raise UserError(
            f"model: {_layer(model, name)}: the same input gives another output the second time, so no work unit could be"
            " run twice with one result; leave out what it keeps from one pass to the next, or draws at random"
        )


def _drawing(model: nn.Module, x: Tensor) -> str:
    """The first of the innermost modules that draws random numbers in a pass; "" where none of them does."""
    found: list[str] = []
    before: dict[str, Tensor] = {}

    def watch(name: str, module: nn.Module) -> list[RemovableHandle]:
        def begin(module: nn.Module, args: object) -> None:
            before[name] = torch.get_rng_state()

        def end(module: nn.Module, args: object, output: object) -> None:
            found.extend([name] if not torch.equal(before[name], torch.get_rng_state()) else [])

        return [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]

    innermost = {name: module for name, module in model.named_modules() if not list(module.children())}
    handles = [handle for name, module in innermost.items() for handle in watch(name, module)]
    try:
        model(x.clone())
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else ""


def _refuse_moved(model: nn.Module, before: Mapping[str, Tensor]) -> None:
    for name, values in _state(model).items():
        if not _same(values, before[name]):
            kind = "parameter" if name in dict(model.named_parameters()) else "buffer"
            raise UserError(
                f"model: {kind} {name!r} changes in a forward pass, so no work unit could be run twice with one result;"
                " leave out layers that keep running statistics or renormalize their weights"
            )


def _refuse_mixing(model: nn.Module, x: Tensor) -> None:
    """The others' bits are the same when one example changes: it stands in a batch of the same shape."""
    before = _trace(model, x.clone())
    for row in range(len(x)):
        rest = [other for other in range(len(x)) if other != row]
        moved = x.clone()
        moved[row] = x[row - 1] if not torch.equal(x[row - 1], x[row]) else x[row] * 0.5

        def others(a: Tensor, b: Tensor, rest: list[int] = rest) -> bool:
            return a.dim() == 0 or len(a) != len(x) or a.shape != b.shape or _close(a[rest], b[rest])

        name = _culprit(before, _trace(model, moved), others)
        if name is not None:
            raise UserError(
                f"model: {_layer(model, name)}: one example's output depends on the others in its batch;"
                f" {_instead(model, name)}"
            )


def _refuse_places(model: nn.Module, x: Tensor) -> None:
    """Sums of another order turn single bits that lie at their threshold: it counts what moves most of the outputs."""
    told = model(x.clone())
    places = [_moved_share(model(x.roll(shift, 0)), told.roll(shift, 0)) for shift in (1, len(x) - 1)]
    if min(places) > 0.5:
        raise UserError(
            "model: one example's output depends on its place in the batch; an example is a row of any batch, whatever its"
            " number"
        )
    widest = max((values.shape[0] for values in _state(model).values() if values.dim()), default=1)
    rows = min(max(2 * len(x), widest + 1), _MOST_ROWS, max(2 * len(x), _MOST_VALUES // max(1, x[0].numel())))
    numbers = torch.arange(rows) % len(x)
    try:
        many = model(x[numbers])
    except Exception as error:
        raise UserError(f"model: takes {len(x)} examples, but not {rows} at once: {blamed(error)}") from error
    if _moved_share(many, told[numbers]) > 0.5:
        raise UserError(f"model: an example's output is another among {rows} examples than among {len(x)}")


def refuse_unreached(model: nn.Module, sites: Sequence[Site], x: Tensor, trained: Mapping[str, nn.Parameter]) -> None:
    """Refuse parameters that the pullback through their own layer never moves.

    Raises:
        UserError: naming the first.
    """
    generator = torch.Generator().manual_seed(0)

    def random(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator).to(like)

    def total(inputs: Tensor) -> Tensor:
        outputs: list[Tensor] = []

        def put(index: int, z: Tensor) -> Tensor:
            outputs.append(z)
            return random(z)  # so that what follows sees bits of both kinds

        with tapped(model, sites, put, detach=True):
            model(inputs)
        return torch.stack([(z * random(z)).sum() for z in outputs]).sum()

    name = _unreached(total, x, trained)
    if name:
        raise UserError(
            f"model: no gradient reaches parameter {name!r} through its own layer, so it would never be trained; give the"
            " layer a straight-through derivative, such as w + (sign(w) - w).detach(), freeze it by requires_grad_(False),"
            " or use --method es"
        )


def refuse_unreached_by_autograd(model: nn.Module, x: Tensor, trained: Mapping[str, nn.Parameter]) -> None:
    """Refuse parameters that no derivative of the outputs reaches, Heaviside units being straight-through.

    Raises:
        UserError: naming the first.
    """

    def total(inputs: Tensor) -> Tensor:
        with straight_through():
            outputs: Tensor = model(inputs)
        return (outputs * torch.randn(outputs.shape, generator=torch.Generator().manual_seed(0))).sum()

    name = _unreached(total, x, trained)
    if name:
        raise UserError(
            f"model: no gradient of the outputs reaches parameter {name!r}, so it would never be trained; freeze it by"
            " requires_grad_(False), or use --method glr, which needs none"
        )


def _unreached(total: Callable[[Tensor], Tensor], x: Tensor, trained: Mapping[str, nn.Parameter]) -> str:
    """The first parameter that no derivative reaches, tried with inputs x and then with random ones; "": there is none."""
    left = dict(trained)
    for attempt in range(_TRIES):
        inputs = x.clone() if not attempt else torch.rand(x.shape, generator=torch.Generator().manual_seed(attempt))
        try:
            value = total(inputs)
        except (RuntimeError, ValueError, IndexError):
            if not attempt:
                raise
            continue  # numbers that are no input of this network
        if value.requires_grad:
            try:
                found = torch.autograd.grad(value, list(left.values()), allow_unused=True)
            except Exception as error:  # such as of an operation in place that spoils what autograd has kept
                raise UserError(f"model: autograd can't take its derivative: {blamed(error)}") from error
            dense = (None if part is None else part.to_dense() if part.is_sparse else part for part in found)
            reached = [name for name, part in zip(left, dense, strict=True) if part is not None and bool(part.any())]
            for name in reached:
                del left[name]
        if not left:
            break
    with torch.no_grad():
        total(x.clone())  # what a layer keeps of a pass, such as a normalized weight, is no part of a graph any more
    return next(iter(left), "")


def _trace(model: nn.Module, x: Tensor) -> _Trace:
    seen: _Trace = []

    def hook_for(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            seen.append((name, _copies((args, kwargs)), _copies(output)))

        return hook

    with ExitStack() as stack:
        for name, module in model.named_modules():
            stack.callback(module.register_forward_hook(hook_for(name), with_kwargs=True).remove)
        model(x)
    return seen


def _copies(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value.detach().clone()]
    if isinstance(value, dict):
        value = tuple(value.values())
    return [tensor for item in value for tensor in _copies(item)] if isinstance(value, (tuple, list)) else []


def _culprit(first: _Trace, second: _Trace, same: _Same) -> str | None:
    """The module that made the first difference: its inputs are the same, its outputs are not. None: there is none."""
    for (name, given, made), (other, given_again, made_again) in zip(first, second, strict=False):
        if name != other or len(made) != len(made_again):
            return ""
        if all(map(same, given, given_again)) and not all(map(same, made, made_again)):
            return name
    return None


def _instead(model: nn.Module, name: str) -> str:
    """What to do about a layer that mixes examples."""
    if getattr(model.get_submodule(name), "batch_first", True) is False:
        return "examples stand on its second axis: give it batch_first=True"
    return "use GroupNorm or LayerNorm, which look at one example"


def _layer(model: nn.Module, name: str) -> str:
    kind = type(model.get_submodule(name)).__name__
    return f"layer {name!r} ({kind})" if name else kind


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())


def _close(a: Tensor, b: Tensor) -> bool:
    if not a.is_floating_point():
        return bool((a == b).all())
    return torch.allclose(a, b, rtol=1e-5, atol=1e-6, equal_nan=True)


def _moved_share(a: Tensor, b: Tensor) -> float:
    """Of examples whose outputs differ by more than rounding."""
    near = torch.isclose(a, b, rtol=1e-3, atol=1e-4, equal_nan=True).flatten(1).all(1)
    return float((~near).float().mean())

"""Finding the noise sites of any ``nn.Module``, in one probing forward pass.

The pass tells the sites in calling order, their shapes, and who reads each site's output. Where every reader is
`glr_dist.core.activations.heaviside`, the loss depends on the site's noise through its sign bits alone, and the score may be
conditioned on them (``Site.binary``). A second pass checks it by moving the output without turning a bit.

Shapes: B examples, N... the rest of a site's output shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from glr_dist.core.activations import heaviside
from glr_dist.core.readers import with_readers
from glr_dist.core.sites import Site, layers, output_of, own_parameters, plain_attention, tapped
from glr_dist.errors import UserError, nearest

_PROBE_ROWS = 3
_BIT_TRIES = 4
_SHAPE_READERS = ("__get__", "size", "dim", "numel")  # harmless when they return no tensor: x.shape, x.dtype ...


class _Readers(TorchFunctionMode):
    """Notes which functions read which watched tensors, and which parameters are read outside their own layers."""

    def __init__(self, parameters: dict[int, str]) -> None:
        super().__init__()
        self.watched: list[tuple[Tensor, set[Any]]] = []
        self.parameters = parameters  # id -> name
        self.inside = 0  # layers whose forward is running
        self.astray: list[tuple[str, str]] = []  # (parameter, the function that read it)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", str(func))
        result = func(*args, **kwargs)
        if name in _SHAPE_READERS and not isinstance(result, Tensor):
            return result
        for arg in _tensors((args, kwargs)):
            for tensor, readers in self.watched:
                if arg is tensor:
                    readers.add(func)  # the function and not its name: torch.heaviside is another
            if not self.inside and id(arg) in self.parameters:
                self.astray.append((self.parameters[id(arg)], name))
        return result


def _tensors(value: Any) -> Iterator[Any]:
    if isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, Tensor):
        yield value


def find_sites(
    model: nn.Module, input_shape: Sequence[int], names: Sequence[str] = (), inputs: Tensor | None = None
) -> list[Site]:
    """The noise sites of a model from [B, *input_shape] to [B, classes], in the order in which a forward pass calls them.

    They are those of the named layers; when there are no names, of all of `glr_dist.core.sites.layers` but those that are
    frozen. Parameters of others stay fixed. Three ``inputs``, such as the network will see, are probed with; random ones
    where there are none.

    Raises:
        UserError: for a model without parametric layers, a name that is no parametric layer or is never called, outputs
            without a leading batch axis, a state that a layer hands on beside its output, trainable parameters that belong
            to no site, and parameters read outside their own layers too.
    """
    plain_attention(model)
    leaves = layers(model)
    if not leaves:
        raise UserError(f"model: {type(model).__name__} has no parametric layer, so there is nothing to train")
    for name in names:
        if name not in leaves:
            raise UserError(f"estimator.sites = {name!r}: no parametric layer of that name; {nearest(name, leaves)}")
    wanted = [name for name, layer in leaves.items() if any(p.requires_grad for p in own_parameters(layer))]
    chosen = {name: leaves[name] for name in (names or wanted or leaves)}
    found, calls = _probe(model, chosen, _probe_rows(model, input_shape) if inputs is None else inputs[:_PROBE_ROWS])
    for name in chosen:
        if calls[name] == 0:
            raise UserError(
                f"estimator.sites: the forward pass never calls layer {name!r}; leave it out by estimator.sites"
            )
    if not names:
        _refuse_homeless_parameters(model, leaves)
    return found


def _refuse_homeless_parameters(model: nn.Module, leaves: dict[str, nn.Module]) -> None:
    reached = _own_parameters(leaves.values())
    homeless = [name for name, p in model.named_parameters() if p.requires_grad and id(p) not in reached]
    if homeless:
        raise UserError(
            f"model: parameter {homeless[0]!r} belongs to a module with children, which no noise site can train;"
            " move it into a layer of its own, set requires_grad=False, or name the layers to train in estimator.sites"
        )


def _probe(model: nn.Module, chosen: dict[str, nn.Module], x: Tensor) -> tuple[list[Site], dict[str, int]]:
    calls = dict.fromkeys(chosen, 0)
    seen: list[tuple[str, int, Tensor, set[Any], bool]] = []
    states: dict[str, set[Any]] = {}  # who reads what a layer returns beside its output
    owned = _own_parameters(chosen.values())
    watch = _Readers({id(p): n for n, p in model.named_parameters() if p.requires_grad and id(p) in owned})

    def enter(module: nn.Module, args: Any) -> None:
        watch.inside += 1

    def hook_for(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            beside = output[1:] if isinstance(output, tuple) else ()
            output = output_of(output)
            if not isinstance(output, Tensor) or output.dim() < 2 or output.shape[0] != _PROBE_ROWS:
                shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
                raise UserError(
                    f"model: layer {name!r} returns {shape} for {_PROBE_ROWS} examples; a noise site needs a tensor with"
                    " the examples on its first axis (leave the layer out by estimator.sites)"
                )
            watch.inside -= 1
            readers: set[Any] = set()
            watch.watched.append((output, readers))
            for state in _tensors(beside):
                watch.watched.append((state, states.setdefault(name, set())))
            seen.append((name, calls[name], output, readers, bool(beside)))
            calls[name] += 1

        return hook

    with ExitStack() as stack:
        for name, module in chosen.items():
            stack.callback(module.register_forward_pre_hook(enter, prepend=True).remove)
            stack.callback(module.register_forward_hook(hook_for(name)).remove)
        with torch.no_grad(), watch:
            logits = model(x)
    if not isinstance(logits, Tensor) or logits.dim() != 2 or logits.shape[0] != _PROBE_ROWS:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(
            f"model: returns {shape} for {_PROBE_ROWS} examples; it must return one row of outputs per example"
        )
    _refuse_astray(watch, chosen, states)
    sites = [
        Site(
            module=name,
            call=call,
            shape=tuple(z.shape[1:]),
            binary=readers == {heaviside} and z is not logits,
            several=several,
        )
        for name, call, z, readers, several in seen
    ]
    checked = [replace(s, binary=s.binary and _bits_alone(model, sites, i, x)) for i, s in enumerate(sites)]
    return with_readers(model, checked, x), calls


def _refuse_astray(watch: _Readers, chosen: dict[str, nn.Module], states: dict[str, set[Any]]) -> None:
    """Refuse what layers hand on, or hold, and noise at their outputs does not reach."""
    for name, read_by in states.items():
        if read_by:
            raise UserError(
                f"model: layer {name!r} ({type(chosen[name]).__name__}) hands on more than its output, such as its last"
                " state, where no noise reaches; read its output instead, such as output[:, -1]"
            )
    if watch.astray:
        parameter, reader = watch.astray[0]
        raise UserError(
            f"model: parameter {parameter!r} is also read outside its layer, by {reader!r}, where no noise site sees it, so"
            " its gradient would lack a part; call the layer as a module, or leave it out by estimator.sites"
        )


def _probe_rows(model: nn.Module, shape: Sequence[int]) -> Tensor:
    rows = torch.rand((_PROBE_ROWS, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    return rows.to(next(model.parameters()).device)


def _own_parameters(modules: Iterable[nn.Module]) -> set[int]:
    return {id(p) for module in modules for p in own_parameters(module)}


def _bits_alone(model: nn.Module, sites: Sequence[Site], index: int, x: Tensor) -> bool:
    """Whether nothing changes when the site's output moves within its bits: catches readers out of sight.

    Tried with the network's own output, and with random ones of all sizes and both signs.
    """
    generator = torch.Generator().manual_seed(0)

    def outputs(change: Callable[[Tensor], Tensor]) -> list[Tensor]:
        seen: list[Tensor] = []

        def move(i: int, z: Tensor) -> Tensor | None:
            if i != index:
                seen.append(z.clone())
            return change(z) if i == index else None

        with tapped(model, sites, move), torch.no_grad():
            seen.append(model(x))
        return seen

    def random() -> Tensor:
        return torch.randn((len(x), *sites[index].shape), generator=generator, dtype=torch.float32).to(x.device)

    for number in range(_BIT_TRIES):
        start = random() if number else None

        def base(z: Tensor, start: Tensor | None = start) -> Tensor:
            return z if start is None else start

        moved = torch.exp(3.0 * random())  # from thousandths to thousands

        def within(z: Tensor, moved: Tensor = moved, base: Callable[[Tensor], Tensor] = base) -> Tensor:
            return torch.where(base(z) >= 0, moved, -moved)

        if not all(torch.equal(a, b) for a, b in zip(outputs(base), outputs(within), strict=True)):
            return False
    return True

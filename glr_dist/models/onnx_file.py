"""A network as an ONNX file, which other tools run and verify.

A Heaviside unit becomes ``Cast(GreaterOrEqual(z, 0))``, so it is 1 at exactly 0 as it is here; ONNX's own Sign(0) is 0, and
ONNX has no Heaviside. Pixels are compared with a threshold as they are: a float32 difference has the sign of the exact one.
Sums may be added up in another order by other tools, so bits may differ where a sum is within float32's error of 0.

Shapes: a batch of any size, [batch, *shape] to [batch, classes].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from glr_dist.core.activations import Heaviside
from glr_dist.errors import UserError
from glr_dist.models.feedforward import feedforward
from glr_dist.models.networks import InputThreshold, Standardize, Thermometer

INPUT, OUTPUT = "X", "Y"
_OPSET, _IR = 17, 8  # what verifiers read


def onnx_bytes(model: nn.Module, shape: Sequence[int], *, batch: int | None = None) -> bytes:
    """The file's content.

    Args:
        model: a row of known layers, see `glr_dist.models.feedforward`.
        shape: of one input.
        batch: inputs at once; None: any number.

    Raises:
        UserError: for another network, or without the package onnx.
    """
    layers = feedforward(model, "--onnx")
    graph = _Graph()
    name = INPUT
    for number, (_, layer) in enumerate(layers):
        name = graph.add(layer, name, OUTPUT if number == len(layers) - 1 else "")
    classes = layers[-1][1].out_features
    assert isinstance(classes, int)
    return graph.model([batch, *shape], [batch, classes])


class _Graph:
    """Nodes and constants as they come."""

    def __init__(self) -> None:
        try:
            import onnx
        except ImportError as error:
            raise UserError('--onnx: needs the package onnx; pip install "glr-dist[export]"') from error
        self._onnx: Any = onnx
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def _node(self, kind: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        name = output or f"{kind.lower()}_{len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(kind, list(inputs), [name], name=f"{kind}_{name}", **attributes))
        return name

    def _constant(self, value: Tensor | float) -> str:
        array = torch.as_tensor(value, dtype=torch.float32).detach().contiguous().numpy()
        name = f"constant_{len(self._constants)}"
        self._constants.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def _step(self, name: str, least: float) -> str:
        reached = self._node("GreaterOrEqual", [name, self._constant(least)])
        return self._node("Cast", [reached], to=self._onnx.TensorProto.FLOAT)

    def add(self, layer: nn.Module, name: str, output: str = "") -> str:
        """A layer that reads the tensor of that name; the name of what it gives."""
        if isinstance(layer, nn.Linear):
            return self._node("Gemm", [name, *self._parameters(layer)], output, transB=1)
        if isinstance(layer, nn.Conv2d):
            return self._convolution(layer, name)
        if isinstance(layer, nn.AvgPool2d):
            return self._pool(layer, name)
        if isinstance(layer, Standardize):
            return self._node("Div", [self._node("Sub", [name, self._constant(layer.mean)]), self._constant(layer.std)])
        if isinstance(layer, InputThreshold):
            return self._step(name, layer.threshold)
        if isinstance(layer, Thermometer):
            return self._node("Concat", [self._step(name, t) for t in layer.thresholds], axis=1)
        if isinstance(layer, Heaviside):
            return self._step(name, 0.0)
        assert isinstance(layer, (nn.Flatten, nn.ReLU)), layer
        return self._node("Relu", [name]) if isinstance(layer, nn.ReLU) else self._node("Flatten", [name], axis=1)

    def _parameters(self, layer: nn.Linear | nn.Conv2d) -> list[str]:
        return [self._constant(p) for p in (layer.weight, layer.bias) if p is not None]

    def _convolution(self, layer: nn.Conv2d, name: str) -> str:
        ends = layer._reversed_padding_repeated_twice  # of the last axis first, where padding is a word too
        pads = [ends[2], ends[0], ends[3], ends[1]]
        attributes: dict[str, Any] = {
            "kernel_shape": list(layer.kernel_size),
            "strides": list(layer.stride),
            "dilations": list(layer.dilation),
            "pads": pads,
            "group": layer.groups,
        }
        return self._node("Conv", [name, *self._parameters(layer)], **attributes)

    def _pool(self, layer: nn.AvgPool2d, name: str) -> str:
        kernel, stride, padding = map(_pair, (layer.kernel_size, layer.stride, layer.padding))
        attributes: dict[str, Any] = {
            "kernel_shape": kernel,
            "strides": stride,
            "pads": [*padding, *padding],
            "ceil_mode": int(layer.ceil_mode),
            "count_include_pad": int(layer.count_include_pad),
        }
        return self._node("AveragePool", [name], **attributes)

    def model(self, inputs: Sequence[int | None], outputs: Sequence[int | None]) -> bytes:
        """The whole file, checked by onnx itself."""
        helper = self._onnx.helper
        values = [
            helper.make_tensor_value_info(
                name, self._onnx.TensorProto.FLOAT, ["batch" if size is None else size for size in sizes]
            )
            for name, sizes in ((INPUT, inputs), (OUTPUT, outputs))
        ]
        graph = helper.make_graph(self._nodes, "network", values[:1], values[1:], self._constants)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], producer_name="glr_dist")
        made.ir_version = _IR
        self._onnx.checker.check_model(made)
        content: bytes = made.SerializeToString()
        return content


def _pair(value: int | Sequence[int]) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)

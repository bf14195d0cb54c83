"""A verifier of its own: reads the exported files alone, and decides a property by OR-tools' CP-SAT over whole numbers.

It shares no code with the package: the network comes from the ONNX file, the ball and the question from the VNN-LIB file,
and an answer "sat" counts only where onnxruntime confirms it. For pixels behind one threshold and a hidden layer of steps.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import vnnlib
import vnnlib.compat
from numpy.typing import NDArray
from onnx import numpy_helper
from ortools.sat.python import cp_model

_SCALE = 2**24
_SLACK = 1e-4  # of the sum of a row's sizes: either value of a bit, or either class, within it


class SecondVerifier:
    def __init__(self, network: Path) -> None:
        model = onnx.load(str(network))
        constants = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
        gemms = [node for node in model.graph.node if node.op_type == "Gemm"]
        steps = [node for node in model.graph.node if node.op_type == "GreaterOrEqual"]
        assert len(gemms) == 2 and len(steps) == 2 and steps[0].input[0] == "X"
        self.threshold = float(constants[steps[0].input[1]])
        (self.w, self.b), (self.v, self.d) = (
            [constants[name].astype(np.float64) for name in node.input[1:]] for node in gemms
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(network), options, providers=["CPUExecutionProvider"])
        self.shape = [1, *(d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim[1:])]

    def verdict(self, property_file: Path, seconds: float) -> str:
        """``unsat``, ``sat`` or ``unknown``."""
        (case,) = vnnlib.compat.transform(vnnlib.parse_query_string(property_file.read_text()))
        low, high = np.array(case.input_box).T
        leads = np.array([polytope.coeff_matrix[0] for polytope in case.output_constraints])
        model: Any = cp_model.CpModel()
        pixels = [self._pixel(model, low[i], high[i]) for i in range(len(low))]
        units = [self._unit(model, pixels, self.w[h], self.b[h]) for h in range(len(self.w))]
        ways = []
        for row in -leads @ np.column_stack([self.v, self.d]):  # the other's output less the label's
            way = model.new_bool_var("")
            slack = _SLACK * np.abs(row).sum()
            model.add(self._sum(units, row[:-1], row[-1] + slack) >= 0).only_enforce_if(way)
            ways.append(way)
        model.add_bool_or(ways)
        solver = cp_model.CpSolver()
        solver.parameters.max_time_in_seconds = seconds
        solver.parameters.num_workers = 1
        status = solver.solve(model)
        if status == cp_model.INFEASIBLE:
            return "unsat"
        if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            return "unknown"
        bits = np.array([solver.value(p) if not isinstance(p, int) else p for p in pixels])
        return "sat" if self.violated(self._point(bits, low, high), leads) else "unknown"

    def violated(self, x: NDArray[np.float32], leads: NDArray[np.float64]) -> bool:
        (logits,) = self.session.run(None, {"X": x.reshape(self.shape)})
        return bool((leads @ logits[0].astype(np.float64) <= 0).any())

    def _pixel(self, model: Any, low: float, high: float) -> Any:
        if low >= self.threshold:
            return 1
        return 0 if high < self.threshold else model.new_bool_var("")

    def _point(
        self, bits: NDArray[np.int64], low: NDArray[np.float64], high: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        below = np.nextafter(np.float32(self.threshold), np.float32(0))
        return np.where(bits > 0, np.maximum(low, self.threshold), np.minimum(high, below)).astype(np.float32)

    def _unit(self, model: Any, pixels: list[Any], w: NDArray[np.float64], b: float) -> Any:
        free = [i for i, p in enumerate(pixels) if not isinstance(p, int)]
        fixed = b + sum(w[i] for i, p in enumerate(pixels) if isinstance(p, int) and p)
        slack = _SLACK * (np.abs(w).sum() + abs(b)) / len(w) ** 0.5
        if fixed + w[free].clip(min=0).sum() < -slack:
            return 0
        if fixed + w[free].clip(max=0).sum() > slack:
            return 1
        unit = model.new_bool_var("")
        some = [pixels[i] for i in free]
        model.add(self._sum(some, w[free], fixed + slack) >= 0).only_enforce_if(unit)
        model.add(self._sum(some, w[free], fixed - slack) <= 0).only_enforce_if(~unit)
        return unit

    def _sum(self, terms: list[Any], weights: NDArray[np.float64], constant: float) -> Any:
        whole = [round(float(w) * _SCALE) for w in weights]
        return cp_model.LinearExpr.weighted_sum(terms, whole) + round(float(constant) * _SCALE)

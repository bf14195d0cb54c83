"""An input gradient worked out by hand, in NumPy."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from glr_dist.models.networks import MLP


def numpy_gradient(net: MLP, x: Tensor, labels: Tensor) -> np.ndarray:
    """Of the summed cross-entropy of a net with one hidden layer of tanh units, in float64."""
    w, b, v, c = (p.detach().double().numpy() for p in net.parameters())
    hidden = np.tanh(x.double().numpy() @ w.T + b)
    logits = hidden @ v.T + c
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    p[np.arange(len(x)), labels.numpy()] -= 1.0
    return ((p @ v) * (1.0 - hidden**2)) @ w

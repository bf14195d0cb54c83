"""Ways to a gradient, an algorithm a file; each registers itself in `glr_dist.methods.method.METHODS`."""

from glr_dist.methods import backprop, evolution, likelihood_ratio

__all__ = ["backprop", "evolution", "likelihood_ratio"]

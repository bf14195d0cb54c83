"""The estimator: noise, sites, scores, passes and gradients as pure functions on tensors; imports torch and numpy only."""

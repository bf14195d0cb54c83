"""How a trained network stands up to adversarial and corrupted inputs: attacks, exact proofs, corruptions, reports."""

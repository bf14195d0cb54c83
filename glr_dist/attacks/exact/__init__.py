"""Exact robust accuracy: proofs and adversaries by intervals, search and a mixed-integer program."""

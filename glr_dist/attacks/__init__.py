"""Attacks: all that is known of one, in its own class; exact answers beside them."""

# they fill ATTACKS, whose order is that of reports
# isort: off
from glr_dist.attacks import random_signs, ascent, blackbox
from glr_dist.attacks.exact import attack as exact

__all__ = ["ascent", "blackbox", "exact", "random_signs"]

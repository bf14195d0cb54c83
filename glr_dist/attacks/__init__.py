"""Attacks: all that is known of one, in its own class; exact answers beside them."""

"""Places to store things."""

from places import folder, small_disk

__all__ = ["folder", "small_disk"]

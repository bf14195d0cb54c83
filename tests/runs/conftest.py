"""Places to store things."""

from places import small_disk

__all__ = ["small_disk"]

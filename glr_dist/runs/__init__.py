"""A run as a whole: its folder, what it says of itself, and the way back from a checkpoint to a network."""

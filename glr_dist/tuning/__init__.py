"""Finding a config by trials: which values are tried, for how long each, and who trains them."""

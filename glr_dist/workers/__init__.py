"""Who runs which call, for anybody: Ray clusters, actors, and a pool of them."""

"""Data sets: named ones or the user's own -> Parquet shards or arrays -> batches of tensors."""

"""Parameters on their way to actors: small vectors in the calls themselves, large ones once through the object store."""

from __future__ import annotations

import numpy as np

from glr_dist.workers.parcels import Vector


def test_small_vectors_travel_in_pieces_that_ray_puts_into_the_call(ray_session: None) -> None:
    vector = np.random.default_rng(0).random(250_000, dtype=np.float32)  # 1 MB, the most
    pieces = Vector(vector).pieces()
    assert all(type(piece) is np.ndarray and piece.nbytes <= 100_000 for piece in pieces)
    assert np.concatenate(pieces).tobytes() == vector.tobytes()


def test_large_vectors_are_stored_once(ray_session: None) -> None:
    import ray

    vector = np.random.default_rng(0).random(250_001, dtype=np.float32)
    (piece,) = Vector(vector).pieces()
    assert isinstance(piece, ray.ObjectRef)
    assert ray.get(piece).tobytes() == vector.tobytes()

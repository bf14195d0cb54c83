"""Signatures (HMAC-SHA256) of a journal's files: who has not the key can't write one that an audit with the key passes."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from pathlib import Path

from glr_dist.errors import UserError
from glr_dist.store.local import read_regular

_LEAST_BYTES = 16


@dataclass(frozen=True)
class Signer:
    """Signs for one run.

    Attributes:
        key: known to who trains and who audits.
        run: what tells this run from all others, so that no file of another is taken for one of its own.
    """

    key: bytes = field(repr=False)
    run: str

    @classmethod
    def read(cls, file: str | Path, run: str) -> Signer:
        """With the key in a file, white space at its ends left out.

        Raises:
            UserError: it can't be read, or is too short for a key.
        """
        try:
            key = read_regular(Path(file).expanduser()).strip()
        except OSError as error:
            raise UserError(f"--journal-key {file}: cannot be read ({error.strerror or error})") from error
        if len(key) < _LEAST_BYTES:
            raise UserError(
                f"--journal-key {file}: holds {len(key)} bytes; give at least {_LEAST_BYTES}, such as those of:"
                " openssl rand -hex 32"
            )
        return cls(key, run)

    def sign(self, name: str, data: bytes) -> str:
        """The signature (hex) of bytes under a name."""
        told = hashlib.sha256(data).hexdigest()
        return hmac.new(self.key, f"{self.run}\n{name}\n{told}".encode(), "sha256").hexdigest()

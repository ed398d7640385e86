"""SHA-256 of files, compared with what is on record before a file is used."""

from __future__ import annotations

import hashlib
from pathlib import Path

from stock_assets.core.errors import StockAssetsError

_SHOWN = 12
_intact: set[tuple[str, int, int, str]] = set()


class DamagedFileError(StockAssetsError):
    """A file is missing, truncated, changed or replaced by another."""


def bytes_digest(content: bytes) -> str:
    """Compute the SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def file_digest(path: Path) -> str:
    """Compute the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_intact(path: Path, digest: str) -> bool:
    """Check the SHA-256 of an existing file; an unchanged file is read once per process.

    Unchanged means: the same time of modification, to the nanosecond, and the same size.
    """
    found = path.stat()
    known = (str(path), found.st_mtime_ns, found.st_size, digest)
    if known in _intact:
        return True
    if file_digest(path) != digest:
        return False
    _intact.add(known)
    return True


def short(digest: str) -> str:
    """Return the first characters of a digest, for messages."""
    return f"{digest[:_SHOWN]}…"

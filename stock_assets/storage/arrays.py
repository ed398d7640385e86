"""Array files named by the digest of their content."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
from numpy.typing import NDArray

from stock_assets.core.errors import StockAssetsError


@dataclass(frozen=True)
class StoredFile:
    """A stored file: SHA-256 of its bytes, key below the root of the store, size in bytes."""

    digest: str
    location: str
    size: int


class ArrayStore:
    """A folder or object store of files named by the digest of their content.

    Nothing is overwritten: equal content is the same file, and a file gets its name only when it
    is complete.

    Parameters
    ----------
    url : str
        Any fsspec address; a plain path is a local folder.
    """

    def __init__(self, url: str) -> None:
        self._files, self._root = fsspec.core.url_to_fs(url)

    def write_tensors(self, tensors: Mapping[str, NDArray[np.generic]]) -> StoredFile:
        """Write named arrays into one memory-mappable safetensors file."""
        from safetensors.numpy import save_file

        contiguous = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
        with tempfile.TemporaryDirectory(dir=self._temporary_root(), prefix="partial-") as folder:
            path = Path(folder) / "new.safetensors"
            save_file(contiguous, path)
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            stored = StoredFile(digest, f"{digest[:2]}/{digest}{path.suffix}", path.stat().st_size)
            self._place(path, f"{self._root}/{stored.location}")
            return stored

    def read_tensors(self, location: str) -> dict[str, NDArray[Any]]:
        """Read the named arrays of a tensor file."""
        from safetensors.numpy import load_file

        return dict(load_file(self.local_path(location)))

    def local_path(self, location: str) -> Path:
        """Return the local path of a stored file; a remote file is cached once.

        Raises
        ------
        StockAssetsError
            The file is missing.
        """
        key = self._key(location)
        if "file" in self._files.protocol:
            return Path(key)
        cached = Path(tempfile.gettempdir()) / "stock_assets_arrays" / location
        if not cached.exists():
            cached.parent.mkdir(parents=True, exist_ok=True)
            partial = cached.with_name(f"{cached.name}.{os.getpid()}")
            self._files.get_file(key, str(partial))
            partial.replace(cached)
        return cached

    def digest(self, location: str) -> str:
        """Return the SHA-256 of a file as it is in the store, not in the cache.

        Raises
        ------
        StockAssetsError
            The file is missing.
        """
        with self._files.open(self._key(location), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _key(self, location: str) -> str:
        key = f"{self._root}/{location}"
        if not self._files.exists(key):
            raise StockAssetsError(
                f"the array file {location} is missing from {self._root}",
                "Restore the folder, or create a new dataset: stock-assets retrain",
            )
        return key

    def _temporary_root(self) -> Path | None:
        """Return the folder of unfinished files: the root if it is local, for an atomic rename."""
        if "file" not in self._files.protocol:
            return None
        root = Path(self._root)
        root.mkdir(parents=True, exist_ok=True)
        return root

    def _place(self, path: Path, key: str) -> None:
        if self._files.exists(key):
            return
        if "file" in self._files.protocol:
            target = Path(key)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
        else:
            self._files.put_file(str(path), key)

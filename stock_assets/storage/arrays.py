"""Array files named by the digest of their content."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import numpy as np
from numpy.typing import NDArray

from stock_assets.core.digests import DamagedFileError, file_digest, is_intact, short

_REMEDY = "Restore it from a backup, or rebuild it from rows: stock-assets retrain --dataset ID"


@dataclass(frozen=True)
class StoredFile:
    """A stored file: SHA-256 of its bytes, key below the root of the store, size in bytes."""

    digest: str
    location: str
    size: int


class ArrayStore:
    """A folder or object store of files named by the digest of their content.

    Equal content is the same file, and a file gets its name only when it is complete. Before a file
    is used its content is compared with its name, once per process and file. Only a damaged file is
    overwritten, by its content.

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
            digest = file_digest(path)
            stored = StoredFile(digest, f"{digest[:2]}/{digest}{path.suffix}", path.stat().st_size)
            self._place(path, stored)
            return stored

    def read_tensors(self, location: str) -> dict[str, NDArray[Any]]:
        """Read the named arrays of a tensor file.

        Raises
        ------
        DamagedFileError
            The file is missing, or its content does not match its name.
        """
        from safetensors.numpy import load_file

        return dict(load_file(self.local_path(location)))

    def local_path(self, location: str) -> Path:
        """Return the local path of a stored file, compared with its name; a remote one is cached.

        Raises
        ------
        DamagedFileError
            The file is missing, or its content does not match its name.
        """
        key, digest = self._key(location), PurePosixPath(location).stem
        if "file" in self._files.protocol:
            path = Path(key)
        else:
            path = Path(tempfile.gettempdir()) / "stock_assets_arrays" / location
            if not path.exists() or not is_intact(path, digest):
                path.parent.mkdir(parents=True, exist_ok=True)
                partial = path.with_name(f"{path.name}.{os.getpid()}")
                self._files.get_file(key, str(partial))
                partial.replace(path)
        if not is_intact(path, digest):
            raise DamagedFileError(
                f"the array file {location} in {self._root} is damaged: its SHA-256 is "
                f"{short(file_digest(path))}, not {short(digest)}",
                _REMEDY,
            )
        return path

    def digest(self, location: str) -> str:
        """Return the SHA-256 of a file as it is in the store, not in the cache.

        Raises
        ------
        DamagedFileError
            The file is missing or cannot be read.
        """
        key = self._key(location)
        try:
            with self._files.open(key, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise DamagedFileError(
                f"the array file {location} in {self._root} cannot be read: "
                f"{error.strerror or error}",
                _REMEDY,
            ) from error

    def _key(self, location: str) -> str:
        key = f"{self._root}/{location}"
        if not self._files.exists(key):
            raise DamagedFileError(
                f"the array file {location} is missing from {self._root}",
                _REMEDY,
            )
        return key

    def _temporary_root(self) -> Path | None:
        """Return the folder of unfinished files: the root if it is local, for an atomic rename."""
        if "file" not in self._files.protocol:
            return None
        root = Path(self._root)
        root.mkdir(parents=True, exist_ok=True)
        return root

    def _place(self, path: Path, stored: StoredFile) -> None:
        key = f"{self._root}/{stored.location}"
        if self._files.exists(key) and self.digest(stored.location) == stored.digest:
            return
        if "file" in self._files.protocol:
            target = Path(key)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
        else:
            self._files.put_file(str(path), key)

"""The recorded digests of a bundle, with which its files are compared when they are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stock_assets.core.digests import DamagedFileError, bytes_digest, short
from stock_assets.core.errors import StockAssetsError

FILE_TAG = "sha256:"
"""Prefix of the tag with the SHA-256 of a file, before its name."""

_REMEDY = (
    "Restore it from a backup; if the version is in force, go back to the newest undamaged one: "
    "stock-assets model rollback"
)


@dataclass(frozen=True)
class BundleDigests:
    """The digests on record of a bundle.

    Attributes
    ----------
    content : str
        SHA-256 of the recipe and the weights, independent of their files.
    files : mapping of str to str
        SHA-256 of each file by its name; empty for versions registered before it was recorded.
    """

    content: str
    files: Mapping[str, str]

    def tags(self) -> dict[str, str]:
        """Return the digests as tags of a version."""
        files = {f"{FILE_TAG}{name}": digest for name, digest in self.files.items()}
        return {"digest": self.content, **files}

    @classmethod
    def from_tags(cls, tags: Mapping[str, str]) -> BundleDigests:
        """Read the digests from tags, which may include others.

        Raises
        ------
        StockAssetsError
            They lack the digest of the content.
        """
        if "digest" not in tags:
            raise StockAssetsError("no digest of the model is on record", _REMEDY)
        files = {
            name.removeprefix(FILE_TAG): digest
            for name, digest in tags.items()
            if name.startswith(FILE_TAG)
        }
        return cls(tags["digest"], files)

    def require_content(self, folder: Path, digest: str) -> None:
        """Fail unless the content of a bundle has the digest on record."""
        if digest != self.content:
            raise DamagedFileError(
                f"the model in {folder} is not the registered one: its digest is {short(digest)}, "
                f"not {short(self.content)}",
                _REMEDY,
            )


def read_file(path: Path, recorded: BundleDigests | None) -> bytes:
    """Read a file of a bundle and compare its bytes with the digest on record, if there is one.

    Raises
    ------
    DamagedFileError
        The file is missing, or has other bytes.
    """
    expected = recorded.files.get(path.name) if recorded else None
    should = f"; its SHA-256 should be {short(expected)}" if expected else ""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DamagedFileError(
            f"the model file {path} cannot be read: {error.strerror}{should}", _REMEDY
        ) from None
    if expected is not None and (found := bytes_digest(content)) != expected:
        raise DamagedFileError(
            f"the model file {path} is damaged: its SHA-256 is {short(found)}, not "
            f"{short(expected)}",
            _REMEDY,
        )
    return content


def unreadable(path: Path, reason: str, recorded: BundleDigests | None) -> DamagedFileError:
    """Return the error for a file whose content is not a model."""
    should = f"; the digest on record of the model is {short(recorded.content)}" if recorded else ""
    return DamagedFileError(f"the model file {path} is damaged: {reason}{should}", _REMEDY)

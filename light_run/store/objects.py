"""Objects by key: what the store needs of a folder or a bucket."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO, Protocol

# Bytes that are read and written at once.
BLOCK = 1 << 20


class Objects(Protocol):
    """Objects named by keys, which are segments of ASCII letters, digits, ``.``, ``_`` and ``-`` joined by ``/``.

    All methods are thread-safe. They raise `StoreUnavailable` where the store fails, and `InsufficientStorage` where it
    is full.
    """

    def check(self) -> None:
        """Raise an error unless the store can be reached."""

    def write(self, key: str, blocks: Iterable[bytes]) -> int:
        """Write an object and return its size.

        It replaces an earlier one, and can be seen only once it is whole. If `blocks` raises, nothing is written.
        """

    def open(self, key: str) -> BinaryIO:
        """Open an object; the file is seekable, and its methods raise OSError. Raises `StoredNotFound`."""

    def keys(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield the key and the size of each object whose key starts with ``<prefix>/``."""

    def names(self, prefix: str) -> Iterator[str]:
        """Yield the segments that follow ``<prefix>/`` in the keys of objects, each once."""

    def remove(self, keys: Iterable[str]) -> None:
        """Remove objects; those that do not exist are ignored."""

    def remove_all(self, prefix: str) -> None:
        """Remove everything whose key starts with ``<prefix>/``, and what writes that were cut short left there."""

    def close(self) -> None:
        """Close all connections."""

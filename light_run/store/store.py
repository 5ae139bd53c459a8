"""The files of runs in a store that all hosts share.

The keys of a run's objects::

    runs/<run id>/input                     its files, until it has ended
    runs/<run id>/<attempt>/log             what it wrote
    runs/<run id>/<attempt>/artifacts.json  the index: what it extracted, and which object has the contents
    runs/<run id>/<attempt>/contents-…      the contents of all its files, one after another

The names that a run gives its files are in the index only, so none is too long or too strange for a key, and any number
of files is two objects. The index is written last: before that, there are no artifacts.

Log and artifacts belong to an attempt. A host that was believed dead and comes back writes those of its own attempt,
and cannot replace those that the journal names.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from light_run.artifacts.store import ArtifactEntry, OpenFile
from light_run.errors import InvalidPath, StoredNotFound, StoreUnavailable
from light_run.store.contents import StoredArtifacts, decode_index, encode_index, packed
from light_run.store.objects import BLOCK, Objects

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_INDEX = "artifacts.json"


class Store:
    """Input, logs and artifacts of runs, as `objects`, which are the store's own from here on. Thread-safe.

    Every method raises `StoreUnavailable` if the store fails, and those that write raise `InsufficientStorage` if it is
    full. What is written can be seen once it is whole. Raises `InvalidPath` for a run id that no server gives.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def check(self) -> None:
        """Raise `StoreUnavailable` unless the store can be reached."""
        self._objects.check()

    def put_input(self, run_id: str, source: BinaryIO) -> int:
        """Store the input of a run, read from `source` to its end; returns its size in bytes."""
        return self._objects.write(f"{_folder(run_id)}/input", blocks(source))

    def open_input(self, run_id: str) -> BinaryIO:
        """Open the input of a run. Raises `StoredNotFound`."""
        return self._objects.open(f"{_folder(run_id)}/input")

    def remove_input(self, run_id: str) -> None:
        """Remove the input of a run, if there is any."""
        self._objects.remove([f"{_folder(run_id)}/input"])

    def put_log(self, run_id: str, attempt: int, source: BinaryIO) -> int:
        """Store the log of an attempt, read from `source` to its end; returns its size in bytes."""
        return self._objects.write(f"{_folder(run_id, attempt)}/log", blocks(source))

    def open_log(self, run_id: str, attempt: int) -> BinaryIO:
        """Open the log of an attempt; the file is seekable. Raises `StoredNotFound`."""
        return self._objects.open(f"{_folder(run_id, attempt)}/log")

    def put_artifacts(self, run_id: str, attempt: int, folder: Path) -> tuple[ArtifactEntry, ...]:
        """Store all regular files and directories in `folder`, which need not exist; returns their entries.

        Follows no link. Replaces what the same attempt has stored before. Raises OSError if `folder` cannot be read.
        """
        parent = _folder(run_id, attempt)
        name = f"contents-{secrets.token_hex(8)}"
        with packed(folder) as (entries, content):
            self._objects.write(f"{parent}/{name}", content)
        self._objects.write(f"{parent}/{_INDEX}", [encode_index(name, entries)])
        # What an earlier call left, which may have been cut short.
        kept = {f"{parent}/{name}", f"{parent}/{_INDEX}", f"{parent}/log"}
        self._objects.remove([key for key, _ in self._objects.keys(parent) if key not in kept])
        return self.artifacts(run_id, attempt).list()

    def artifacts(self, run_id: str, attempt: int) -> StoredArtifacts:
        """Return the artifacts of an attempt. Raises `StoredNotFound` if none were stored, or they were evicted."""
        parent = _folder(run_id, attempt)
        with self._objects.open(f"{parent}/{_INDEX}") as file:
            try:
                name, entries = decode_index(file.read())
            except ValueError as error:
                raise StoreUnavailable(f"{parent}/{_INDEX} cannot be read: {error}") from error
            except OSError as error:
                raise StoreUnavailable(f"{parent}/{_INDEX} cannot be read: {error.strerror}") from error
        return StoredArtifacts(entries, lambda: self._objects.open(f"{parent}/{name}"), location=parent)

    def list_artifacts(self, run_id: str, attempt: int) -> tuple[ArtifactEntry, ...]:
        """Return all files and directories of an attempt, sorted by path; empty if none were stored."""
        with suppress(StoredNotFound):
            return self.artifacts(run_id, attempt).list()
        return ()

    def open_artifact(self, run_id: str, attempt: int, path: str) -> OpenFile | tuple[ArtifactEntry, ...]:
        """Open the file at `path`, or return the entries of the directory there; as `ArtifactStore.open`.

        Raises `StoredNotFound` if no artifacts were stored, and also `InvalidPath` and `ArtifactNotFound`.
        """
        return self.artifacts(run_id, attempt).open(path)

    def runs(self) -> Iterator[str]:
        """Yield the ids of the runs of which something is stored."""
        return (name for name in self._objects.names("runs") if _RUN_ID.fullmatch(name))

    def usage(self, run_id: str) -> int:
        """Return the bytes of all objects of a run."""
        return sum(size for _, size in self._objects.keys(_folder(run_id)))

    def evict(self, run_id: str) -> None:
        """Remove the artifacts of all attempts of a run; its log stays."""
        found = [key for key, _ in self._objects.keys(_folder(run_id))]
        # The index goes first: where there is one, there are contents.
        self._objects.remove(key for key in found if key.endswith(f"/{_INDEX}"))
        self._objects.remove(key for key in found if "/contents-" in key)

    def delete(self, run_id: str) -> None:
        """Remove everything of a run, if there is anything."""
        self._objects.remove_all(_folder(run_id))

    def close(self) -> None:
        """Close all connections."""
        self._objects.close()


def blocks(source: BinaryIO) -> Iterator[bytes]:
    """Yield what is left of `source`, in bounded pieces."""
    while block := source.read(BLOCK):
        yield block


def _folder(run_id: str, attempt: int | None = None) -> str:
    if not _RUN_ID.fullmatch(run_id):
        raise InvalidPath("the run id is not valid")
    if attempt is None:
        return f"runs/{run_id}"
    if attempt < 1:
        raise ValueError(f"there is no attempt {attempt}: the first is 1")
    return f"runs/{run_id}/{attempt}"

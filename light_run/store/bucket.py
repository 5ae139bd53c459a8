"""Objects in a bucket that speaks the S3 protocol, by way of s3fs.

Credentials, region and endpoint come from where every S3 client finds them: ``AWS_ACCESS_KEY_ID``,
``AWS_SECRET_ACCESS_KEY``, ``AWS_ENDPOINT_URL``, a profile, or the instance's role.
"""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, cast

import aiohttp
import fsspec.asyn  # type: ignore[import-untyped]
import s3fs  # type: ignore[import-untyped]
from botocore.exceptions import (  # type: ignore[import-untyped]
    BotoCoreError,
    ClientError,
)

from light_run.errors import StoredNotFound, StoreUnavailable
from light_run.store.objects import BLOCK

# An object up to this size is one request, a larger one is sent in parts of it, of which there may be 10000.
_PART = 8 * BLOCK
_READ_AHEAD = 4 * BLOCK
# S3 takes no more keys in one request to delete.
_MOST_KEYS = 1000
# Seconds for the connection and for each read, and how often botocore sends a request that fails.
_CONNECTION = {
    "connect_timeout": 5,
    "read_timeout": 30,
    "retries": {"mode": "standard", "max_attempts": 3},
    # Other servers than Amazon's do not know the checksums that are the default since 2025.
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}
_FAULTS = (OSError, BotoCoreError, ClientError, aiohttp.ClientError)


class BucketObjects:
    """The `Objects` in `bucket`, with keys below `prefix`, which may be empty."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._files = s3fs.S3FileSystem(
            use_listings_cache=False,
            skip_instance_cache=True,
            fixed_upload_size=True,
            config_kwargs=_CONNECTION,
        )

    def check(self) -> None:
        """See `Objects`."""
        with self._translated():
            self._files.call_s3("head_bucket", Bucket=self._bucket)

    def write(self, key: str, blocks: Iterable[bytes]) -> int:
        """See `Objects`."""
        ahead = iter(blocks)
        first = _joined(ahead)
        if len(first) < _PART:
            with self._translated():
                self._files.pipe_file(self._path(key), first)
            return len(first)
        return self._write_parts(key, itertools.chain([first], ahead))

    def _write_parts(self, key: str, blocks: Iterable[bytes]) -> int:
        with self._translated():
            file = self._files.open(self._path(key), "wb", block_size=_PART, autocommit=False)
        try:
            # Errors of the source are the caller's: only those of the bucket are translated.
            for block in blocks:
                with self._translated():
                    file.write(block)
            with self._translated():
                file.close()
                file.commit()
        except BaseException:
            # Closed without this, it would publish what came so far.
            file.closed = True
            with contextlib.suppress(*_FAULTS):
                file.discard()
            raise
        return int(file.loc)

    def open(self, key: str) -> BinaryIO:
        """See `Objects`."""
        with self._translated(key):
            size = self._files.info(self._path(key))["size"]
        return cast("BinaryIO", io.BufferedReader(_Reader(self._files, self._path(key), size), _READ_AHEAD))

    def keys(self, prefix: str) -> Iterator[tuple[str, int]]:
        """See `Objects`."""
        with self._translated():
            found = self._files.find(self._path(prefix), detail=True)
        if not found:
            self.check()
        for path, about in found.items():
            yield path[len(self._path("")) :], about["size"]

    def names(self, prefix: str) -> Iterator[str]:
        """See `Objects`."""
        with self._translated():
            try:
                found = self._files.ls(self._path(prefix), detail=False)
            except FileNotFoundError:
                found = []
        if not found:
            self.check()
        for path in found:
            yield path.rsplit("/", 1)[-1]

    def remove(self, keys: Iterable[str]) -> None:
        """See `Objects`."""
        ahead = iter(keys)
        while some := list(itertools.islice(ahead, _MOST_KEYS)):
            objects = [{"Key": f"{self._prefix}{key}"} for key in some]
            with self._translated():
                answer = self._files.call_s3(
                    "delete_objects", Bucket=self._bucket, Delete={"Objects": objects, "Quiet": True}
                )
            # A refusal of single keys is no error of the request.
            for failed in answer.get("Errors", ()):
                raise StoreUnavailable(
                    f"the bucket {self._bucket} does not delete {failed.get('Key')}: {failed.get('Message')}"
                )

    def remove_all(self, prefix: str) -> None:
        """See `Objects`. Parts of uploads that were cut short are the bucket's lifecycle rule's to remove."""
        self.remove([key for key, _ in self.keys(prefix)])

    def close(self) -> None:
        """See `Objects`."""
        session = self._files._s3
        if session is not None:
            with contextlib.suppress(*_FAULTS):
                fsspec.asyn.sync(self._files.loop, session.__aexit__, None, None, None)

    def _path(self, key: str) -> str:
        return f"{self._bucket}/{self._prefix}{key}"

    @contextlib.contextmanager
    def _translated(self, key: str | None = None) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if key is not None:
                # A bucket that does not exist has no objects, either: that is another error.
                self.check()
                raise StoredNotFound(f"the store has no {key}") from error
            raise StoreUnavailable(
                f"the bucket {self._bucket} does not exist: create it, or check LIGHT_RUN_STORE_URL"
            ) from error
        except PermissionError as error:
            raise StoreUnavailable(
                f"the bucket {self._bucket} refuses this server: check its credentials and policy ({error})"
            ) from error
        except _FAULTS as error:
            raise StoreUnavailable(f"the bucket {self._bucket} cannot be used: {error}") from error


class _Reader(io.RawIOBase):
    # An object that is read by ranges, each a request of its own that may be repeated.
    def __init__(self, files: Any, path: str, size: int) -> None:
        self._files, self._path, self._size = files, path, size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise OSError(errno.EINVAL, "a position before the start of the object")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        found = self._next(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def readall(self) -> bytes:
        # The one of the base class asks for 8 KiB at once.
        return self._next(self._size)

    def _next(self, most: int) -> bytes:
        stop = min(self._at + most, self._size)
        if stop <= self._at:
            return b""
        try:
            found: bytes = self._files.cat_file(self._path, start=self._at, end=stop)
        except OSError:
            raise
        except _FAULTS as error:
            raise OSError(errno.EIO, f"{self._path} cannot be read: {error}") from error
        if len(found) != stop - self._at:
            raise OSError(errno.EIO, f"{self._path} is shorter than it was")
        self._at = stop
        return found


def _joined(blocks: Iterator[bytes]) -> bytes:
    # As much as one part holds.
    found = bytearray()
    for block in blocks:
        found += block
        if len(found) >= _PART:
            break
    return bytes(found)

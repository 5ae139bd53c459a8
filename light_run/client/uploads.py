"""What a run is asked for with: its fields, and the files that go with it."""

from __future__ import annotations

import io
import json
import os
import stat
import tarfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from light_run.errors import Fault, InvalidSpec

Content = str | bytes | Path
Files = Mapping[str, Content] | Sequence[tuple[str, Content]] | Path
# Told of each piece that is about to be sent, by its bytes.
Progress = Callable[[int], object]

_BLOCK = 1 << 16


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to be sent: its bytes, or where they are; or an empty `folder`."""

    content: bytes | Path
    executable: bool = False
    folder: bool = False

    def open(self) -> BinaryIO:
        """Its bytes, to be read. Raises OSError."""
        return self.content.open("rb") if isinstance(self.content, Path) else io.BytesIO(self.content)


def uploads(files: Files | None) -> dict[str, Upload]:
    """What `files` come to, by path in the workdir: a folder's contents, or each entry of a mapping.

    A `Path` in a mapping is a file, or a folder whose contents are put below its key, "" for the workdir
    itself. Raises `InvalidSpec` for what cannot be sent, such as a link that leads out of its folder, and
    OSError.
    """
    found: dict[str, Upload] = {}
    for target, upload in _all(files or {}):
        # Said here: the server's answer to the same comes after all of them have been sent.
        if target in found:
            raise _fault(target, "is given twice")
        if (
            target.startswith("/")
            or ".." in target.split("/")
            or target.endswith("/")
            or not target.strip(".")
        ):
            raise _fault(target, "is no path of a file below the workdir")
        found[target] = upload
    return found


def _all(files: Files) -> Iterator[tuple[str, Upload]]:
    if isinstance(files, Path):
        yield from _tree(files, "")
        return
    for target, content in files.items() if isinstance(files, Mapping) else files:
        if isinstance(content, Path) and content.is_dir():
            yield from _tree(content, f"{target.rstrip('/')}/" if target else "")
        elif isinstance(content, Path):
            yield target, _file(content)
        elif isinstance(content, (str, bytes)):
            yield target, Upload(content.encode() if isinstance(content, str) else content)
        else:
            raise _fault(target, f"is {type(content).__name__}; it must be str, bytes or a Path")


class MultipartMessage:
    """A request as multipart/form-data: its `fields`, and a tar of its files that is made while it is sent.

    The same files give the same bytes, however often they are sent: that is what an Idempotency-Key is for.
    """

    def __init__(self, fields: Mapping[str, Any], files: Mapping[str, Upload]) -> None:
        self._boundary = uuid.uuid4().hex
        self._request = json.dumps(fields, separators=(",", ":")).encode()
        self._files = files

    @property
    def content_type(self) -> str:
        """The value of its Content-Type header."""
        return f"multipart/form-data; boundary={self._boundary}"

    def sent(self, progress: Progress) -> Iterator[bytes]:
        """Its bytes, a bounded piece at a time; `progress` is told of each before it goes. Raises OSError."""
        for piece in self._pieces():
            progress(len(piece))
            yield piece

    def _pieces(self) -> Iterator[bytes]:
        yield self._head("request") + self._request + self._head("archive", "files.tar")
        for target, upload in self._files.items():
            try:
                yield from _member(target, upload)
            except OSError as error:
                # To what sends this, an OSError is a connection that broke.
                raise _fault(target, f"cannot be sent: {error.strerror or error}") from error
        yield bytes(2 * tarfile.BLOCKSIZE)
        yield f"\r\n--{self._boundary}--\r\n".encode()

    def _head(self, name: str, filename: str = "") -> bytes:
        after = f'; filename="{filename}"' if filename else ""
        return (
            f'\r\n--{self._boundary}\r\nContent-Disposition: form-data; name="{name}"{after}\r\n\r\n'.encode()
        )


def _member(target: str, upload: Upload) -> Iterator[bytes]:
    info = tarfile.TarInfo(target)
    info.mode = 0o755 if upload.executable or upload.folder else 0o644
    info.type = tarfile.DIRTYPE if upload.folder else tarfile.REGTYPE
    with upload.open() as file:
        left = info.size = file.seek(0, os.SEEK_END)
        file.seek(0)
        yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        while left and (block := file.read(min(_BLOCK, left))):
            left -= len(block)
            yield block
    if left:
        raise OSError(f"{upload.content!s} became shorter while it was sent")
    yield bytes(-info.size % tarfile.BLOCKSIZE)


def _tree(folder: Path, below: str) -> Iterator[tuple[str, Upload]]:
    # Links are followed as far as they stay inside: what lies elsewhere was not asked to be sent.
    root = folder.resolve(strict=True)
    for parent, names, files in os.walk(folder, onerror=_raise):
        names.sort()
        for name in names:
            if (link := Path(parent, name)).is_symlink():
                raise _fault(link, "is a link to a folder, which is not followed: send that folder by itself")
        if not names and not files and (empty := Path(below, Path(parent).relative_to(folder))).name:
            yield empty.as_posix(), Upload(b"", folder=True)
        for name in sorted(files):
            path = Path(parent, name)
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                raise _fault(path, "is a link that leads out of its folder")
            yield below + path.relative_to(folder).as_posix(), _file(path)


def _file(path: Path) -> Upload:
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise _fault(path, "is no regular file")
    return Upload(path, executable=bool(mode & stat.S_IXUSR))


def _raise(error: OSError) -> None:
    raise error


def _fault(path: Path | str, right: str) -> InvalidSpec:
    return InvalidSpec([Fault(("files", str(path)), "invalid_file", f"the file {str(path)!r} {right}")])

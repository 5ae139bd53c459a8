"""Encodes the request for a run: its fields and files as one multipart message."""

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
# Called with the bytes of each chunk before it is sent.
Progress = Callable[[int], object]

_BLOCK = 1 << 16


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to send, as bytes or as the path of a local file; or an empty `folder`."""

    content: bytes | Path
    executable: bool = False
    folder: bool = False

    def open(self) -> BinaryIO:
        """Open the content for reading. Raises OSError."""
        return self.content.open("rb") if isinstance(self.content, Path) else io.BytesIO(self.content)


def uploads(files: Files | None) -> dict[str, Upload]:
    """Return the uploads for `files` by their path in the workdir.

    A `Path` in a mapping is a file, or a folder whose contents are put into the folder named by its key; "" is the
    workdir itself. Raises `InvalidSpec` if a file cannot be sent, such as a link that leads out of its folder,
    and OSError.
    """
    found: dict[str, Upload] = {}
    for target, upload in _each_upload(files or {}):
        # Checked here, because the server would report it only after the whole upload.
        if target in found:
            raise _fault(target, "is given twice")
        if (
            target.startswith("/")
            or ".." in target.split("/")
            or target.endswith("/")
            or not target.strip(".")
        ):
            raise _fault(target, "is not a relative path in the workdir: remove '..' and slashes at the ends")
        found[target] = upload
    return found


def _each_upload(files: Files) -> Iterator[tuple[str, Upload]]:
    if isinstance(files, Path):
        yield from _folder_uploads(files, "")
        return
    for target, content in files.items() if isinstance(files, Mapping) else files:
        if isinstance(content, Path) and content.is_dir():
            yield from _folder_uploads(content, f"{target.rstrip('/')}/" if target else "")
        elif isinstance(content, Path):
            yield target, _file_upload(content)
        elif isinstance(content, (str, bytes)):
            yield target, Upload(content.encode() if isinstance(content, str) else content)
        else:
            raise _fault(target, f"is {type(content).__name__}: give str, bytes or a Path")


class MultipartMessage:
    """A multipart/form-data request: its `fields`, and a tar archive of its files, created while it is sent.

    The bytes are the same for every retry, as an Idempotency-Key requires.
    """

    def __init__(self, fields: Mapping[str, Any], files: Mapping[str, Upload]) -> None:
        self._boundary = uuid.uuid4().hex
        self._request = json.dumps(fields, separators=(",", ":")).encode()
        self._files = files

    @property
    def content_type(self) -> str:
        """The value of the Content-Type header."""
        return f"multipart/form-data; boundary={self._boundary}"

    def sent(self, progress: Progress) -> Iterator[bytes]:
        """Yield the message in chunks of limited size; `progress` is called before each. Raises `InvalidSpec`."""
        for piece in self._pieces():
            progress(len(piece))
            yield piece

    def _pieces(self) -> Iterator[bytes]:
        yield self._part_head("request") + self._request + self._part_head("archive", "files.tar")
        for target, upload in self._files.items():
            try:
                yield from _tar_member(target, upload)
            except OSError as error:
                # requests would treat an OSError as a broken connection.
                raise _fault(target, f"cannot be sent: {error.strerror or error}") from error
        yield bytes(2 * tarfile.BLOCKSIZE)
        yield f"\r\n--{self._boundary}--\r\n".encode()

    def _part_head(self, name: str, filename: str = "") -> bytes:
        after = f'; filename="{filename}"' if filename else ""
        return (
            f'\r\n--{self._boundary}\r\nContent-Disposition: form-data; name="{name}"{after}\r\n\r\n'.encode()
        )


def _tar_member(target: str, upload: Upload) -> Iterator[bytes]:
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
        raise OSError(f"{upload.content!s} became shorter while it was being sent")
    yield bytes(-info.size % tarfile.BLOCKSIZE)


def _folder_uploads(folder: Path, below: str) -> Iterator[tuple[str, Upload]]:
    # Only links to files inside the folder are followed: the caller did not ask to send other files.
    root = folder.resolve(strict=True)
    for parent, names, files in os.walk(folder, onerror=_raise):
        names.sort()
        for name in names:
            if (link := Path(parent, name)).is_symlink():
                raise _fault(
                    link, "is a link to a folder, which is not followed: send that folder separately"
                )
        if not names and not files and (empty := Path(below, Path(parent).relative_to(folder))).name:
            yield empty.as_posix(), Upload(b"", folder=True)
        for name in sorted(files):
            path = Path(parent, name)
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                raise _fault(path, "is a link that leads out of its folder")
            yield below + path.relative_to(folder).as_posix(), _file_upload(path)


def _file_upload(path: Path) -> Upload:
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise _fault(path, "is not a regular file")
    return Upload(path, executable=bool(mode & stat.S_IXUSR))


def _raise(error: OSError) -> None:
    raise error


def _fault(path: Path | str, right: str) -> InvalidSpec:
    return InvalidSpec([Fault(("files", str(path)), "invalid_file", f"the file {str(path)!r} {right}")])

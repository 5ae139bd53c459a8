"""Unpacks archives while they arrive: tar, tar.gz or zip.

Only regular files, folders, and hard links to files that were unpacked before are accepted. The archive is not trusted:
tarfile and zipfile only list its members, and this module decides what is written where.
"""

from __future__ import annotations

import gzip
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, cast

from marshmallow import ValidationError

from light_run.api.requests.faults import FieldFault, faults
from light_run.api.requests.files import relative_path
from light_run.api.requests.strict_json import MOST_FAULTS
from light_run.api.requests.uploads.archive_source import CHUNK, BoundedReader, ForwardReader
from light_run.errors import Fault, InvalidSpec
from light_run.runs.ports import IntakePort

SOURCE = "archive"

_MOST_GZIP_READ = 1024 * 1024
# The headers of one member: its own, long names, extended headers, maps of sparse files.
_MOST_TAR_HEADERS = 128 * 1024
# Global headers: tarfile copies them to every member.
_MOST_GLOBAL_HEADERS = 16

_OTHERS = {
    b"\xfd7zXZ\0": "compressed with xz",
    b"BZh": "compressed with bzip2",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"\x04\x22\x4d\x18": "compressed with lz4",
    b"\x1f\x9d": "compressed with compress",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
}
_GZIP = b"\x1f\x8b"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_LONGEST_MAGIC = 6
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

# Exceptions for an invalid or incomplete archive.
_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    ValueError,
    LookupError,
    ArithmeticError,
    RecursionError,
    NotImplementedError,
)


def unpack(chunks: Iterator[bytes], intake: IntakePort) -> None:
    """Unpack the archive in `chunks` into `intake`; not all of `chunks` need be read.

    Raises InvalidSpec for names that lead outside or exist already, for members that are neither files nor folders, and
    for archives that are broken, encrypted or of another format; PayloadTooLarge, OSError.
    """
    archive = ForwardReader(chunks)
    head = archive.peek(_LONGEST_MAGIC)
    for magic, what in _OTHERS.items():
        if head.startswith(magic):
            raise _fault(f"is {what}; it must be a tar, tar.gz or zip archive")
    members = _Members(intake)
    try:
        if head.startswith(_ZIP):
            _from_zip(archive, members)
        elif head.startswith(_GZIP):
            # gzip reads 128 KiB or more at a time.
            source = ForwardReader(_chunks(cast("IO[bytes]", archive)), most=_MOST_GZIP_READ)
            with gzip.GzipFile(fileobj=cast("IO[bytes]", source)) as file:
                _from_tar(ForwardReader(iter(lambda: file.read(CHUNK), b"")), members)
        else:
            _from_tar(archive, members)
    except _BROKEN as error:
        reason = str(error) or "it is truncated"
        members.add(_fault(f"is broken, or no tar, tar.gz or zip archive: {reason}"))
    members.raise_faults()


class _Members:
    # Unpacks members one by one and collects a bounded number of faults.
    def __init__(self, intake: IntakePort) -> None:
        self._intake = intake
        self._faults: list[Fault] = []

    @property
    def has_too_many_faults(self) -> bool:
        return len(self._faults) >= MOST_FAULTS

    def add(self, error: InvalidSpec) -> None:
        self._faults.extend(error.faults)

    def raise_faults(self) -> None:
        if self._faults:
            raise InvalidSpec(self._faults)

    def refuse(self, name: str, what: str) -> None:
        self.add(_fault(what, name))

    def file(self, name: str, file: IO[bytes], mode: int) -> None:
        path = self._path(name)
        # After a fault, nothing more is written.
        if path is not None and not self._faults:
            self._kept(lambda: self._intake.add_file(path, _chunks(file), mode, SOURCE))

    def directory(self, name: str) -> None:
        while name.endswith(("/", "/.")):
            name = name[:-1]
        if name in {"", "."}:
            return
        path = self._path(name)
        if path is not None:
            self._kept(lambda: self._intake.add_directory(path, SOURCE))

    def add_hard_link(self, name: str, first: str) -> None:
        path, target = self._path(name), self._path(first)
        if path is None or target is None or self._faults:
            return
        if not self._kept(lambda: self._intake.copy_file(target, path, SOURCE)):
            self.refuse(name, "is a hard link to a file that is not in the archive before it")

    def _path(self, name: str) -> str | None:
        try:
            name.encode()
            return relative_path(name)
        except UnicodeEncodeError:
            shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            self.refuse(shown, "has a name that is not UTF-8")
        except ValidationError as error:
            self._faults.extend(faults(error.messages, (SOURCE, name)))
        return None

    def spool(self) -> IO[bytes]:
        return self._intake.spool()

    def _kept(self, take: Callable[[], bool | None]) -> bool | None:
        try:
            return take()
        except InvalidSpec as error:
            self.add(error)
            return True


def _from_tar(archive: ForwardReader, members: _Members) -> None:
    archive.spare = _MOST_TAR_HEADERS
    with tarfile.TarFile(
        fileobj=cast("IO[bytes]", archive), encoding="utf-8", errors="surrogateescape"
    ) as tar:
        while not members.has_too_many_faults and (member := tar.next()) is not None:
            # A file's content has its own limit.
            archive.spare = None
            if len(tar.pax_headers) > _MOST_GLOBAL_HEADERS:
                raise tarfile.ReadError("it has too many global headers")
            if member.isdir():
                members.directory(member.name)
            elif member.isreg():
                members.file(member.name, cast("IO[bytes]", tar.extractfile(member)), member.mode)
            elif member.islnk():
                members.add_hard_link(member.name, member.linkname)
            else:
                members.refuse(
                    member.name, f"is {_tar_kind(member)}; only regular files and folders are accepted"
                )
            # tarfile keeps every member in memory, of which there may be a million.
            tar.members = []  # type: ignore[attr-defined]
            archive.spare = _MOST_TAR_HEADERS
    # tarfile also takes a truncated archive for a complete one.
    if not members.has_too_many_faults and archive.last != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it lacks the zero blocks at the end of a tar")


def _tar_kind(member: tarfile.TarInfo) -> str:
    if member.issym():
        return "a symbolic link"
    return "a pipe" if member.isfifo() else "a device" if member.isdev() else "neither"


def _from_zip(archive: ForwardReader, members: _Members) -> None:
    # The table of contents comes last, so the whole file is needed.
    with members.spool() as spool:
        for chunk in _chunks(cast("IO[bytes]", archive)):
            spool.write(chunk)
        with zipfile.ZipFile(cast("IO[bytes]", BoundedReader(spool))) as found:
            for info in found.infolist():
                if members.has_too_many_faults:
                    break
                _take_zipped(found, info, members)


def _take_zipped(archive: zipfile.ZipFile, info: zipfile.ZipInfo, members: _Members) -> None:
    # zipfile cuts names at a NUL.
    name = info.orig_filename
    mode = info.external_attr >> 16
    kind = stat.S_IFMT(mode)
    if info.flag_bits & 1:
        members.refuse(name, "is encrypted")
    elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        what = "a symbolic link" if kind == stat.S_IFLNK else "no regular file"
        members.refuse(name, f"is {what}; only regular files and folders are accepted")
    elif name.endswith("/"):
        members.directory(name)
    elif info.compress_type not in _METHODS:
        members.refuse(name, "has an unsupported compression method; use deflate")
    else:
        with archive.open(info) as file:
            members.file(name, file, mode)


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: file.read(CHUNK), b"")


def _fault(what: str, name: str | None = None) -> InvalidSpec:
    path = (SOURCE,) if name is None else (SOURCE, name)
    return InvalidSpec(list(faults([FieldFault("invalid_archive", what)], path)))

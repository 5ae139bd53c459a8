"""``POST /run`` as multipart/form-data (RFC 7578): the request in one part, its files in the others.

======================  ==================================================================
part                    what it is
======================  ==================================================================
``request``             the request as JSON; ``files`` is optional in it
``archive``             a tar, tar.gz or zip, unpacked into the workdir; it may be empty
any other               a file; its ``filename`` is its path in the workdir
======================  ==================================================================

The parts may come in any order. Files are written while they arrive; only the request is held in memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, cast

from flask import Request
from marshmallow import ValidationError
from multipart import (  # type: ignore[import-untyped,unused-ignore]
    MultipartError,
    MultipartSegment,
    ParserLimitReached,
    PushMultipartParser,
    content_disposition_unquote,
    parse_options_header,
)
from werkzeug import http
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge

from light_run.api.requests.faults import FieldFault, faults
from light_run.api.requests.files import relative_path
from light_run.api.requests.strict_json import MOST_FAULTS
from light_run.api.requests.uploads import archives
from light_run.errors import Fault, InvalidSpec
from light_run.runs.ports import IntakePort

REQUEST = "request"
TYPE = "multipart/form-data"

# A path has at most 1024 characters of four bytes each, or three times as many bytes if it is percent-encoded.
_MOST_HEADER = 16 * 1024
_MOST_PARTS = 100_002

Load = Callable[[bytes], Mapping[str, Any]]
Take = Callable[[str, str | None, Iterator[bytes]], None]


@dataclass(frozen=True, slots=True)
class Received:
    """The loaded fields of the request, and a `digest` of everything that the client sent."""

    loaded: Mapping[str, Any]
    digest: str


def boundary(request: Request) -> str | None:
    """Return the boundary of a multipart `request`, or None if the body is JSON."""
    return request.mimetype_params.get("boundary") or None if request.mimetype == TYPE else None


def receive(pieces: Iterator[bytes], boundary: str, intake: IntakePort, load: Load, most: int) -> Received:
    """Read the body in `pieces` to its end and write its files to `intake`.

    `load` parses the part ``request``, which may have at most `most` bytes. Raises InvalidSpec with all faults at
    once; nothing is written after the first fault. Raises BadRequest for an invalid multipart body,
    RequestEntityTooLarge, PayloadTooLarge, OSError.
    """
    parts = _PartReceiver(intake, load, most)
    found = _digest(pieces, boundary, parts.take)
    return Received(parts.settle(), found)


def digest(pieces: Iterator[bytes], boundary: str) -> str:
    """Return the digest that `receive` computes, without keeping the body. Raises BadRequest, and 413."""
    return _digest(pieces, boundary, lambda *_: None)


def _digest(pieces: Iterator[bytes], boundary: str, take: Take) -> str:
    # Passes each part to `take`.
    found = sha256()
    for segment, chunks in _segments(pieces, boundary):
        content = sha256()
        name, filename = _names(segment)
        hashed = _hashed(chunks, content)
        take(name, filename, hashed)
        for _ in hashed:
            pass
        # Without the boundary, which is different in a client's next attempt.
        found.update(json.dumps([name, filename, content.hexdigest()]).encode())
    return found.hexdigest()


class _PartReceiver:
    # Reads the parts one by one and collects their faults.
    def __init__(self, intake: IntakePort, load: Load, most: int) -> None:
        self._intake, self._load, self._most = intake, load, most
        self._loaded: Mapping[str, Any] | None = None
        self._seen: set[str] = set()
        self._faults: list[Fault] = []

    def take(self, name: str, filename: str | None, chunks: Iterator[bytes]) -> None:
        if len(self._faults) >= MOST_FAULTS:
            raise InvalidSpec(self._faults)
        try:
            if name in {REQUEST, archives.SOURCE}:
                self._take_once(name, chunks)
            elif filename is None:
                what = f"has no filename; a part that is neither {REQUEST} nor {archives.SOURCE} is a file"
                self._refuse(name, FieldFault("invalid_part", what))
            else:
                path = relative_path(filename)
                if not self._faults:
                    self._intake.add_file(path, chunks)
        except ValidationError as error:
            self._faults.extend(faults({"files": {filename: error.messages}}))
        except InvalidSpec as error:
            self._faults.extend(error.faults)

    def settle(self) -> Mapping[str, Any]:
        if REQUEST not in self._seen:
            self._refuse(REQUEST, FieldFault("required", "is missing; it must contain the request as JSON"))
        if self._loaded is not None and not self._faults:
            self._take_posted(self._loaded)
        if self._faults or self._loaded is None:
            raise InvalidSpec(self._faults)
        return self._loaded

    def _take_once(self, name: str, chunks: Iterator[bytes]) -> None:
        if name in self._seen:
            self._refuse(
                name, FieldFault("duplicate_part", "is given twice; only one part may have this name")
            )
            return
        self._seen.add(name)
        if name == REQUEST:
            self._loaded = self._load(self._whole(chunks))
        elif not self._faults:
            archives.unpack(chunks, self._intake)

    def _take_posted(self, loaded: Mapping[str, Any]) -> None:
        try:
            self._intake.write(loaded.get("files", {}))
        except InvalidSpec as error:
            self._faults.extend(error.faults)
        else:
            # An archive may be empty: the client has said that there are no files.
            if not self._intake.files and archives.SOURCE not in self._seen:
                what = "is missing: send files as parts, in an archive or in the request"
                self._refuse("files", FieldFault("required", what))

    def _whole(self, chunks: Iterator[bytes]) -> bytes:
        found = bytearray()
        for chunk in chunks:
            found += chunk
            if len(found) > self._most:
                raise RequestEntityTooLarge(f"the part request is longer than {self._most} bytes")
        return bytes(found)

    def _refuse(self, name: str, problem: FieldFault) -> None:
        self._faults.extend(faults([problem], (name,)))


def _segments(pieces: Iterator[bytes], boundary: str) -> Iterator[tuple[MultipartSegment, Iterator[bytes]]]:
    events = _events(pieces, boundary)
    # A segment, its bytes, None: and so on.
    for event in events:
        yield cast("MultipartSegment", event), _content(events)


def _content(events: Iterator[MultipartSegment | bytes | None]) -> Iterator[bytes]:
    for event in events:
        if event is None:
            return
        yield cast("bytes", event)


def _events(pieces: Iterator[bytes], boundary: str) -> Iterator[MultipartSegment | bytes | None]:
    try:
        parser = PushMultipartParser(
            boundary, max_header_size=_MOST_HEADER, max_segment_count=_MOST_PARTS, header_charset="utf-8"
        )
        for piece in pieces:
            yield from parser.parse(piece)
        parser.close()
    except ParserLimitReached as error:
        raise RequestEntityTooLarge(f"the body exceeds a limit: {error}") from None
    except MultipartError as error:
        raise BadRequest(f"the body is not a complete {TYPE}: {error.args[0]}") from None


def _names(segment: MultipartSegment) -> tuple[str, str | None]:
    # Once more: what the parser says a filename is has lost the folders that browsers of old would send.
    shown = segment.header("Content-Disposition")
    _, options = parse_options_header(shown, unquote=lambda value, _: content_disposition_unquote(value))
    if "filename" not in options:
        # "filename*" is an older encoding for names beyond ASCII, which RFC 7578 forbids.
        options["filename"] = http.parse_options_header(shown)[1].get("filename")
    return options.get("name", ""), options["filename"]


def _hashed(chunks: Iterator[bytes], digest: Any) -> Iterator[bytes]:
    for chunk in chunks:
        digest.update(chunk)
        yield chunk

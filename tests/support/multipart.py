"""Bodies of multipart/form-data, byte for byte, and archives to put into them."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from typing import Any

BOUNDARY = "boundary-5d1c"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def part(name: str, content: bytes | str, filename: str | bytes | None = None) -> bytes:
    """One part, its boundary first; names are sent as they are."""
    shown = filename.encode() if isinstance(filename, str) else filename
    head = b'Content-Disposition: form-data; name="' + name.encode() + b'"'
    if shown is not None:
        head += b'; filename="' + shown + b'"\r\nContent-Type: application/octet-stream'
    content = content.encode() if isinstance(content, str) else content
    return b"--" + BOUNDARY.encode() + b"\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


def body(*parts: bytes) -> bytes:
    """A whole body of `parts`."""
    return b"".join(parts) + b"--" + BOUNDARY.encode() + b"--\r\n"


def request_part(**fields: Any) -> bytes:
    """The part with the request."""
    return part("request", json.dumps(fields))


def tar(*members: tuple[str, bytes | str], mode: str = "w", kind: bytes = tarfile.REGTYPE) -> bytes:
    """A tar of `members`: a name and bytes, or a name and, as a string, what a member of `kind` links to."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = kind, content
            data = b"" if isinstance(content, str) else content
            info.size = len(data)
            info.mode = 0o755
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def zipped(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED, attributes: int = 0) -> bytes:
    """A zip of `members`, each with the mode `attributes`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            info.external_attr = attributes << 16
            archive.writestr(info, content)
    return buffer.getvalue()

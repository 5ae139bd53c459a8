"""What a run is asked for with: its fields, and the files that go with it."""

from __future__ import annotations

import base64
import os
import shlex
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from light_run.errors import Fault, InvalidSpec

Content = str | bytes | Path
Files = Mapping[str, Content] | Path

# What a request has to have, where there is nothing to be sent: an empty file that no listing shows.
PLACEHOLDER = ".light-run"


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to be sent: its bytes, or where they are."""

    content: bytes | Path
    executable: bool = False

    def read(self) -> bytes:
        """Its bytes. Raises OSError."""
        return self.content.read_bytes() if isinstance(self.content, Path) else self.content


def uploads(files: Files | None) -> dict[str, Upload]:
    """What `files` come to, by path in the workdir: a folder's contents, or each entry of a mapping.

    A `Path` in a mapping is a file, or a folder that is put below its key. Raises `InvalidSpec` for what
    cannot be sent, such as a link that leads out of its folder, and OSError.
    """
    if files is None:
        return {}
    if isinstance(files, Path):
        return dict(_tree(files, ""))
    found: dict[str, Upload] = {}
    for target, content in files.items():
        if isinstance(content, Path) and content.is_dir():
            found.update(_tree(content, target.rstrip("/") + "/"))
        elif isinstance(content, Path):
            found[target] = _file(content)
        else:
            found[target] = Upload(content.encode() if isinstance(content, str) else content)
    return found


def body(fields: Mapping[str, Any], files: Mapping[str, Upload]) -> dict[str, Any]:
    """The body of ``POST /run``: those of `fields` that are not None, and `files`. Raises OSError."""
    given = {name: value for name, value in fields.items() if value is not None}
    contents = {target: _content(upload) for target, upload in files.items()}
    return {**given, "files": contents or {PLACEHOLDER: ""}}


def text(content: bytes) -> str | dict[str, str]:
    """`content` as JSON has it: text where it is that, otherwise in base64."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return {"content": base64.b64encode(content).decode(), "encoding": "base64"}


def command_line(command: Sequence[str]) -> str:
    """The shell's line for the words of `command`, each of them passed on as it is."""
    return shlex.join(command)


def _content(upload: Upload) -> str | dict[str, str]:
    found = text(upload.read())
    if not upload.executable:
        return found
    return {**(found if isinstance(found, dict) else {"content": found}), "mode": "0755"}


def _tree(folder: Path, below: str) -> Iterator[tuple[str, Upload]]:
    # Links are followed as far as they stay inside: what lies elsewhere was not asked to be sent.
    root = folder.resolve(strict=True)
    for parent, names, files in os.walk(folder, onerror=_raise):
        names.sort()
        for name in names:
            if (link := Path(parent, name)).is_symlink():
                raise _fault(link, "is a link to a folder; those are not followed")
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


def _fault(path: Path, right: str) -> InvalidSpec:
    return InvalidSpec([Fault(("files", str(path)), "invalid_file", f"{path} {right}")])

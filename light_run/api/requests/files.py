"""The `files` of a request: paths inside the workdir, and their content."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from typing import Any

from marshmallow import ValidationError, fields

from light_run.api.requests.faults import FieldFault, kind, shown, wrong, wrong_type
from light_run.api.requests.fields import MESSAGES
from light_run.api.requests.strict_json import MOST_FAULTS
from light_run.engine.spec import MOST_FILES, File

MOST_PATH = 1024
# The kernel's own limits are 255 bytes a name and 4096 a path; the rest is for the folder above.
_MOST_NAME_BYTES = 255
_MOST_PATH_BYTES = 3600

_SEPARATORS = re.compile(r"[/\\]")
_ABSOLUTE = re.compile(r"\\|[A-Za-z]:[/\\]")
_MODE = re.compile(r"0?[0-7]{3}")
# What `relative_path` refuses, but for lengths in bytes: absolute, with a "..", or a folder.
_NO_PATH = r"^[/\\]|^([.]?/)*(\\|[A-Za-z]:[/\\])|(^|[/\\])[.][.]([/\\]|$)|(^|/)[.]?$|[^/]{256}|\u0000"
_BASE64 = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
_KEYS = ("content", "encoding", "mode")
_ENCODINGS = ("utf8", "base64")

Content = str | File


def relative_path(path: str) -> str:
    """Return `path` without ``.`` and empty segments. Raises `ValidationError` if it may lead outside the workdir."""
    if not path:
        raise wrong("invalid_path", "is empty; it must have at least one character")
    if len(path) > MOST_PATH:
        raise wrong("invalid_path", f"has {len(path)} characters; the maximum is {MOST_PATH}")
    if "\0" in path:
        raise wrong("invalid_path", "has a NUL character")
    names = [name for name in path.split("/") if name not in {"", "."}]
    # Also what a path is without its first dots: "./C:\\x" is no better than "C:\\x".
    if path.startswith(("/", "\\")) or _ABSOLUTE.match("/".join(names)):
        raise wrong("invalid_path", "is absolute; it must be relative to the workdir")
    if ".." in _SEPARATORS.split(path):
        raise wrong("invalid_path", 'has a ".." segment; it must stay below the workdir')
    if not names or path.endswith(("/", "/.")):
        raise wrong("invalid_path", "names a folder; it must name a file")
    sizes = [len(name.encode("utf-8", "replace")) for name in names]
    if max(sizes) > _MOST_NAME_BYTES:
        raise wrong("invalid_path", f"has a name of {max(sizes)} bytes; the maximum is {_MOST_NAME_BYTES}")
    if sum(sizes) + len(sizes) > _MOST_PATH_BYTES:
        raise wrong("invalid_path", f"has {sum(sizes)} bytes; the maximum is {_MOST_PATH_BYTES}")
    return "/".join(names)


def content(value: Any) -> Content:
    """What is to be in a file: text, or ``{"content", "encoding", "mode"}``. Raises `ValidationError`."""
    if isinstance(value, str):
        return value
    raw = decoded(value, _KEYS)
    return File(raw, int(value["mode"], 8)) if "mode" in value else File(raw)


def decoded(value: Any, keys: Sequence[str]) -> bytes:
    """Return the bytes of an object with only the keys `keys`. Raises `ValidationError`."""
    if not isinstance(value, dict):
        raise wrong_type(value, 'a string, or an object such as {"content": "...", "encoding": "base64"}')
    problems = dict(_problems(value, keys))
    if problems:
        raise ValidationError(problems)
    try:
        return _decoded(value["content"], value.get("encoding", "utf8"))
    except ValueError:
        raise ValidationError({"content": [FieldFault("invalid_base64", "is not base64")]}) from None


_MODE_SCHEMA = {"mode": {"type": "string", "pattern": f"^{_MODE.pattern}$", "description": "Octal."}}


def _content_schema(more: dict[str, object]) -> list[dict[str, object]]:
    # What stands for bytes: text, or an object that says how they are written, with `more` beside that.
    def written(content: dict[str, str], encoding: dict[str, object], *required: str) -> dict[str, object]:
        return {
            "type": "object",
            "properties": {"content": {"type": "string", **content}, "encoding": encoding, **more},
            "required": ["content", *required],
            "additionalProperties": False,
        }

    return [
        {"type": "string"},
        written({}, {"const": "utf8", "default": "utf8"}),
        written({"contentEncoding": "base64", "pattern": _BASE64}, {"const": "base64"}, "encoding"),
    ]


_FILES_SCHEMA = {
    "minProperties": 1,
    "maxProperties": MOST_FILES,
    "propertyNames": {"minLength": 1, "maxLength": MOST_PATH, "not": {"pattern": _NO_PATH}},
    "additionalProperties": {"anyOf": _content_schema({**_MODE_SCHEMA})},
}


class Stdin(fields.Field):  # type: ignore[type-arg,unused-ignore]
    """The input for stdin: text, or ``{"content", "encoding"}``. The loaded value is bytes."""

    def __init__(self) -> None:
        super().__init__(error_messages=MESSAGES, metadata={"anyOf": _content_schema({})})

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bytes:
        # A lone surrogate is found, and said with its place, when the body is read.
        return value.encode("utf-8", "replace") if isinstance(value, str) else decoded(value, _KEYS[:2])


class Files(fields.Dict):
    """An object of relative paths and contents, with at least one entry."""

    def __init__(self) -> None:
        super().__init__(required=True, error_messages=MESSAGES, metadata=_FILES_SCHEMA)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> dict[str, Content]:
        if not isinstance(value, dict):
            raise wrong_type(value, "an object of paths and contents")
        if not value:
            raise wrong("too_short", "is empty; it must have at least one file")
        if len(value) > MOST_FILES:
            right = f"has {len(value)} files; the maximum is {MOST_FILES}, also of those that are sent as an archive"
            raise wrong("too_long", right)
        found: dict[str, Content] = {}
        given: dict[str, str] = {}
        problems: dict[str, Any] = {}
        for path, item in value.items():
            try:
                target = relative_path(path)
                if target in given:
                    raise wrong("invalid_path", f"is the same file as {shown(given[target])}")
                given[target] = path
                found[target] = content(item)
            except ValidationError as error:
                problems[path] = error.messages
                if len(problems) >= MOST_FAULTS:
                    break
        for target in _below_files(given):
            problems[given[target]] = [
                FieldFault("invalid_path", "is in a folder that is also given as a file")
            ]
        if problems:
            raise ValidationError(problems)
        return found


def _problems(value: dict[str, Any], keys: Sequence[str]) -> Iterator[tuple[str, list[FieldFault]]]:
    for name in value:
        if name not in keys:
            yield name, [FieldFault("unknown_field", f"is unknown; there are {', '.join(keys)}")]
    if "content" not in value:
        yield "content", [FieldFault("required", "is missing")]
    elif not isinstance(value["content"], str):
        yield "content", [FieldFault("invalid_type", f"is {kind(value['content'])}; it must be a string")]
    if value.get("encoding", "utf8") not in _ENCODINGS:
        yield "encoding", [FieldFault("invalid_value", 'must be "utf8" or "base64"')]
    mode = value.get("mode", "644")
    if not isinstance(mode, str) or not _MODE.fullmatch(mode):
        yield "mode", [FieldFault("invalid_value", 'must be a string of octal digits such as "0755"')]


def _decoded(text: str, encoding: str) -> bytes:
    if encoding == "base64":
        return base64.b64decode(text, validate=True)
    return text.encode("utf-8", "replace")


def _below_files(paths: dict[str, str]) -> Iterator[str]:
    # If "/" sorts before everything else, the paths below a path come right after it.
    above = None
    for key in sorted(path.replace("/", "\0") for path in paths):
        if above is not None and key.startswith(above):
            yield key.replace("\0", "/")
        else:
            above = key + "\0"

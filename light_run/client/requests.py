"""What may be asked of a run, in Python's words, and the same in those of the HTTP API."""

from __future__ import annotations

import base64
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypedDict

from light_run.client.uploads import Files, Progress
from light_run.errors import Fault, InvalidSpec


class Options(TypedDict, total=False):
    """What a run is asked for with, beside its image and its command; all of it may be left out.

    `files` are a mapping of paths in the workdir to text, bytes or `Path`, pairs of these, or a folder whose
    contents are sent. `stdin` is written to the program as it is, `input` as JSON. `env` are environment variables.
    `extract` names what of the container's files is kept, `steps` are commands that are baked into the image first.
    `timeout` is in seconds, and so is `step_timeout`, for all `steps` together. `network` is ``none``, ``bridge``
    or a network's name. `limits` are ``memory``, ``cpus`` and ``pids``. The final state is POSTed to
    `callback_url`, signed with `callback_secret`. `progress` is called with the size of each piece in bytes before
    it is sent; what that raises keeps the run from being.
    """

    files: Files | None
    stdin: str | bytes | None
    input: Any
    env: Mapping[str, str] | None
    extract: Sequence[str] | None
    steps: Sequence[str] | None
    timeout: float | None
    step_timeout: float | None
    network: str | None
    workdir: str | None
    limits: Mapping[str, Any] | None
    runtime: str | None
    pull: Literal["missing", "always", "never"] | None
    callback_url: str | None
    callback_secret: str | None
    progress: Progress


def text(content: str | bytes) -> str | dict[str, str]:
    """`content` as JSON has it: text where that is the shorter way, otherwise in base64."""
    raw = content.encode() if isinstance(content, str) else content
    # What is not ASCII, and a NUL, has six characters in JSON.
    if raw.isascii() and b"\0" not in raw:
        return raw.decode()
    return {"content": base64.b64encode(raw).decode(), "encoding": "base64"}


def _milliseconds(name: str, seconds: float) -> int:
    if not math.isfinite(seconds):
        fault = f"{name} is {seconds}; it must be a number of seconds"
        raise InvalidSpec([Fault((name,), "out_of_range", fault)])
    whole = round(seconds * 1000)
    # Less than there is a unit for is little; none and less are the caller's mistake, for the server to name.
    return 1 if whole == 0 < seconds else whole


# Ours, theirs, and how one becomes the other.
_FIELDS: tuple[tuple[str, str, Callable[[Any], Any]], ...] = (
    ("env", "env", dict),
    ("extract", "extract", list),
    ("steps", "run", list),
    ("timeout", "timeout", partial(_milliseconds, "timeout")),
    ("step_timeout", "stepTimeout", partial(_milliseconds, "step_timeout")),
    ("network", "network", str),
    ("workdir", "workdir", str),
    ("limits", "limits", dict),
    ("runtime", "runtime", str),
    ("pull", "pull", str),
    ("callback_url", "callbackUrl", str),
    ("callback_secret", "callbackSecret", str),
    ("stdin", "stdin", text),
)


def request(image: str, command: Sequence[str] | str | None, options: Options) -> dict[str, Any]:
    """The fields of ``POST /run`` for a detached run, its files left out. Raises TypeError for an unknown option."""
    unknown = options.keys() - Options.__annotations__.keys()
    if unknown:
        raise TypeError(f"a run has no option {', '.join(sorted(unknown))}")
    given: Mapping[str, Any] = {name: value for name, value in options.items() if value is not None}
    fields: dict[str, Any] = {"image": image, "detached": True}
    if command is not None:
        # Words reach the program as they are; a line is for the shell to take apart.
        fields["entrypoint"] = command if isinstance(command, str) else shlex.join(command)
    fields |= {theirs: become(given[ours]) for ours, theirs, become in _FIELDS if ours in given}
    if "input" in options:
        fields["input"] = options["input"]
    return fields

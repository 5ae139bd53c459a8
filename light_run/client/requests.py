"""The options of a run, and their translation to the fields of ``POST /run``."""

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
    """The options of a run besides its image and command. All are optional.

    `files` is a mapping from paths in the workdir to text, bytes or `Path`, a sequence of such pairs, or a folder
    whose contents are sent. `stdin` is written to the program's standard input unchanged, `input` as JSON. `env` are
    environment variables. `extract` are paths in the container to keep as artifacts. `steps` are shell commands that
    are built into the image first. `timeout` is in seconds, and so is `step_timeout`, for all `steps` together.
    `network` is ``none``, ``bridge`` or the name of a network; `networks` are several, in place of it. `limits` has
    the keys ``memory``, ``cpus``, ``pids``, ``shm``, ``nofile``, ``fsize`` and ``gpus``. `user` is the command's.
    `registry_auth` has ``username`` and ``password``, or ``token``, for the pull of the image. `platform` is what the
    image has to be for, such as ``linux/amd64``. With `interactive`, the standard input stays open for
    `Client.write_stdin`. `labels` mark the run, and lists of runs can be filtered by them. The final state is POSTed
    to `callback_url` and signed with `callback_secret`. `progress` is called with the size of each chunk in bytes
    before it is sent; an exception it raises aborts the request. With `output` ``split``, the state has `stdout` and
    `stderr` in place of `logs`.
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
    networks: Sequence[str] | None
    workdir: str | None
    limits: Mapping[str, Any] | None
    runtime: str | None
    pull: Literal["missing", "always", "never"] | None
    labels: Mapping[str, str] | None
    user: str | None
    registry_auth: Mapping[str, str] | None
    interactive: bool | None
    platform: str | None
    output: Literal["lines", "split"] | None
    callback_url: str | None
    callback_secret: str | None
    progress: Progress


def text(content: str | bytes) -> str | dict[str, str]:
    """Encode `content` for JSON: as text if that is shorter, otherwise in base64."""
    raw = content.encode() if isinstance(content, str) else content
    # JSON escapes a NUL, or a character beyond ASCII, with six characters.
    if raw.isascii() and b"\0" not in raw:
        return raw.decode()
    return {"content": base64.b64encode(raw).decode(), "encoding": "base64"}


def _milliseconds(name: str, seconds: float) -> int:
    if not math.isfinite(seconds):
        fault = f"{name} is {seconds}: give a finite number of seconds"
        raise InvalidSpec([Fault((name,), "out_of_range", fault)])
    whole = round(seconds * 1000)
    # A fraction of a millisecond becomes one. Zero and less are errors that the server reports.
    return 1 if whole == 0 < seconds else whole


# The name of an option, the name of its field in the HTTP API, and the conversion of its value.
_FIELDS: tuple[tuple[str, str, Callable[[Any], Any]], ...] = (
    ("env", "env", dict),
    ("extract", "extract", list),
    ("steps", "run", list),
    ("timeout", "timeout", partial(_milliseconds, "timeout")),
    ("step_timeout", "stepTimeout", partial(_milliseconds, "step_timeout")),
    ("network", "network", str),
    ("networks", "networks", list),
    ("workdir", "workdir", str),
    ("limits", "limits", dict),
    ("runtime", "runtime", str),
    ("pull", "pull", str),
    ("labels", "labels", dict),
    ("user", "user", str),
    ("registry_auth", "registryAuth", dict),
    ("interactive", "interactive", bool),
    ("platform", "platform", str),
    ("output", "output", str),
    ("callback_url", "callbackUrl", str),
    ("callback_secret", "callbackSecret", str),
    ("stdin", "stdin", text),
)


def request(image: str, command: Sequence[str] | str | None, options: Options) -> dict[str, Any]:
    """Return the fields of ``POST /run`` for a detached run, without files. Raises TypeError for unknown options."""
    unknown = options.keys() - Options.__annotations__.keys()
    if unknown:
        raise TypeError(f"unknown options of a run: {', '.join(sorted(unknown))}")
    given: Mapping[str, Any] = {name: value for name, value in options.items() if value is not None}
    fields: dict[str, Any] = {"image": image, "detached": True}
    if command is not None:
        # Quoted words reach the program unchanged; a string is a line that the shell parses.
        fields["entrypoint"] = command if isinstance(command, str) else shlex.join(command)
    fields |= {field: convert(given[option]) for option, field, convert in _FIELDS if option in given}
    if "input" in options:
        fields["input"] = options["input"]
    return fields

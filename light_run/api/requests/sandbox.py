"""What a request may ask of its sandbox: the user of the command, and limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from marshmallow.fields import Field

from light_run.api.requests.faults import kind, shown, wrong, wrong_type
from light_run.api.requests.fields import MESSAGES, Integer, Number, Size, Text
from light_run.api.requests.policy import Policy
from light_run.engine.spec import MIB, Gpus, Limits

# A shell needs some, and so does the launcher of a parked container.
_FEWEST_FILES, _MOST_FILES = 64, 1_048_576
# A page: the engine takes 0 for its default.
_SMALLEST_SHM = 4096
# The largest integer that every JSON parser reads.
_LARGEST_FILE = 2**53 - 1

_NAME_OR_ID = "[A-Za-z0-9_][A-Za-z0-9_.-]*"
_USER = re.compile(f"{_NAME_OR_ID}(?::{_NAME_OR_ID})?")
# Beyond it, an id is negative to the kernel's 32-bit users.
_LAST_ID = 2**31 - 1
_SURE = "(?:[A-Za-z_][A-Za-z0-9_.-]{0,31}|[0-9]{1,9})"


def user_field(policy: Policy) -> Text:
    """Return the field for the user of the command."""

    def check(text: str) -> None:
        right = "it must be 1000, 1000:1000 or the name of a user of the image"
        if not _USER.fullmatch(text):
            raise wrong("invalid_value", f"is {shown(text)}; {right}")
        if any(part.isdigit() and int(part) > _LAST_ID for part in text.split(":")):
            raise wrong("out_of_range", f"is {shown(text)}; ids must be from 0 to {_LAST_ID}")
        if not policy.allows_user(user_of(text)):
            allowed = ", ".join(policy.users or ())
            raise wrong("not_allowed", f"is {shown(text)}; this server allows {allowed} (LIGHT_RUN_USERS)")

    return Text(check, most=100, schema={"pattern": f"^{_SURE}(?::{_SURE})?$"})


def user_of(text: str) -> str:
    """Return a user with its ids in the usual spelling: ``007`` is ``7``."""
    return ":".join(str(int(part)) if part.isdigit() else part for part in text.split(":"))


class GpuCount(Field):  # type: ignore[type-arg,unused-ignore]
    """``"all"``, or a number of GPUs up to `most`; None allows none."""

    def __init__(self, most: Gpus | None) -> None:
        number = {"type": "integer", "minimum": 1, **({} if most in ("all", None) else {"maximum": most})}
        some = {"anyOf": [number, {"const": "all"}]} if most == "all" else number
        super().__init__(error_messages=MESSAGES, metadata={"not": {}} if most is None else some)
        self._most = most

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Gpus:
        right = '"all" or a number of GPUs, 1 or more'
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise wrong_type(value, right)
        if value != "all" and (isinstance(value, str) or value < 1):
            raise wrong(
                "invalid_value", f"is {shown(value) if isinstance(value, str) else kind(value)}; give {right}"
            )
        if self._most is None:
            raise wrong("not_allowed", "is given; this server gives no GPUs to runs (LIGHT_RUN_GPUS)")
        if self._most != "all" and (value == "all" or int(value) > int(self._most)):
            raise wrong("not_allowed", f"is {value}; this server allows {self._most} (LIGHT_RUN_GPUS)")
        return "all" if value == "all" else int(value)


def limit_fields(policy: Policy) -> dict[str, Field[Any]]:
    """Return the fields of ``limits``."""
    most = policy.most
    shm, fsize = most.shm or most.memory, most.fsize or _LARGEST_FILE
    files = most.nofile or _MOST_FILES
    return {
        "memory": Size(least=min(6 * MIB, most.memory), most=most.memory),
        "cpus": Number("CPUs", least=min(0.01, most.cpus), most=most.cpus),
        "pids": Integer("processes", least=1, most=most.pids),
        "shm": Size(least=min(_SMALLEST_SHM, shm), most=shm),
        "nofile": Integer("open files", least=min(_FEWEST_FILES, files), most=files),
        "fsize": Size(least=0, most=fsize),
        "gpus": GpuCount(most.gpus),
    }


def limits_of(asked: Mapping[str, Any], default: Limits) -> Limits:
    """Return the limits that a request asks for, or else those of `default`."""
    return Limits(**{name: asked.get(name, getattr(default, name)) for name in Limits.__dataclass_fields__})

"""The bodies of ``POST /runs/ID/ACTION``."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from marshmallow import Schema
from marshmallow.fields import Field

from light_run.api.requests.faults import shown, wrong
from light_run.api.requests.fields import Integer, Text
from light_run.api.requests.strict import Strict
from light_run.engine.spec import Reason
from light_run.engine.stop import Stop


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionBody:
    """The body of an action: an optional JSON object.

    `schema` makes the schema. `parse` turns the loaded fields into what the service is given. `defaults` and
    `descriptions` of the fields, and `examples`, are for the OpenAPI document.
    """

    schema: Callable[[], Schema]
    parse: Callable[[Mapping[str, Any]], object]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    descriptions: Mapping[str, str] = field(default_factory=dict)
    examples: Mapping[str, Any] = field(default_factory=dict)


DEFAULT_SIGNAL = "SIGTERM"
DEFAULT_GRACE = 10_000
MOST_GRACE = 300_000
# With and without SIG. Small letters are accepted, too.
_NAMES = sorted({name for each in signal.Signals for name in (each.name, each.name.removeprefix("SIG"))})


def stop_schema() -> Schema:
    """Return the schema of the body: a signal, and a grace in milliseconds."""
    fields: dict[str, Field[Any]] = {
        "signal": Text(_known_signal, least=1, most=20, schema={"enum": _NAMES}),
        "grace": Integer("milliseconds", least=0, most=MOST_GRACE),
    }
    return Strict.from_dict(fields, name="StopRequest")()


def stop_of(loaded: Mapping[str, Any]) -> Stop:
    """Return the stop that the fields `loaded` ask for."""
    name = _signal_name(loaded.get("signal", DEFAULT_SIGNAL))
    return Stop(Reason.STOPPED, signal=name, grace=loaded.get("grace", DEFAULT_GRACE) / 1000)


def _signal_name(text: str) -> str:
    name = text.upper()
    return name if name.startswith("SIG") else f"SIG{name}"


def _known_signal(text: str) -> None:
    if _signal_name(text) not in signal.Signals.__members__:
        raise wrong(
            "invalid_value", f"is {shown(text)}; it must be the name of a signal, such as SIGTERM or INT"
        )


BODIES = {
    "stop": ActionBody(
        schema=stop_schema,
        parse=stop_of,
        defaults={"signal": DEFAULT_SIGNAL, "grace": DEFAULT_GRACE},
        descriptions={
            "signal": "The name of a signal, with or without `SIG`.",
            "grace": "Milliseconds until SIGKILL; 0 is SIGKILL at once.",
        },
        examples={"interrupt": {"summary": "As Ctrl-C", "value": {"signal": "INT", "grace": 2000}}},
    )
}

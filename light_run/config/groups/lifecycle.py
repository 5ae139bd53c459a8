"""How long runs are kept, callbacks, and the end of the server."""

from __future__ import annotations

from dataclasses import dataclass

from light_run.config import readers
from light_run.config.variables import setting


@dataclass(frozen=True, kw_only=True)
class LifecycleSettings:
    """How long runs are kept, callbacks, and the end of the server."""

    retention: float = setting(
        604_800.0, readers.seconds(0, 315_360_000), "seconds that ended runs are kept", shown="604800"
    )
    max_runs: int = setting(
        10_000,
        readers.integer(1, 1_000_000),
        "maximum number of ended runs kept; the oldest runs of the token with the most are deleted first",
    )
    callback_private: bool = setting(
        True, readers.boolean, "allow callbacks to loopback and private addresses"
    )
    callback_pause: float = setting(
        2.0,
        readers.seconds(0.01, 3600),
        "seconds before the first retry of a callback, with exponential backoff",
        shown="2",
    )
    callback_lifetime: float = setting(
        86_400.0,
        readers.seconds(0, 604_800),
        "seconds after the end of a run during which its callback is retried",
        shown="86400",
    )
    sweep_interval: float = setting(
        60.0, readers.seconds(0.1, 86_400), "seconds between two checks of the artifacts' size", shown="60"
    )
    grace: float = setting(
        5.0, readers.seconds(0, 3600), "seconds that sync runs get to finish when the server stops", shown="5"
    )
    otel_debug: bool = setting(
        False,
        readers.boolean,
        "print traces to stdout, in place of sending them where OTEL_EXPORTER_OTLP_ENDPOINT says",
    )

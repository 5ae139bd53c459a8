"""One callback: who asked for it, and what is sent."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import IO

from light_run.runs.callbacks.signatures import Signatures
from light_run.runs.callbacks.targets import Target
from light_run.runs.model import RunRecord


@dataclass(frozen=True, slots=True)
class Recipient:
    """Who asked for a callback: where to, and the secret to sign it with."""

    url: str = field(repr=False)
    secret: str | None = field(default=None, repr=False)


@dataclass(slots=True)
class CallbackMessage:
    """A callback under way: `run` as it ended; `since` and `due` by the monotonic clock."""

    run: RunRecord
    recipient: Recipient
    target: Target
    since: float
    due: float = math.inf
    attempts: int = 0
    last_status: int | None = None
    under_way: bool = False
    forgotten: bool = False
    # To be sent behind this one, which is under way.
    again: CallbackMessage | None = None


def write(
    message: CallbackMessage, pieces: Iterable[bytes], body: IO[bytes], timestamp: int
) -> dict[str, str]:
    """Fill `body` with `pieces`; the headers that go with it, of `timestamp` in seconds since the epoch."""
    run_id, secret = message.run.id, message.recipient.secret
    signatures = None if secret is None else Signatures(secret, run_id, timestamp)
    length = 0
    for piece in pieces:
        body.write(piece)
        length += len(piece)
        if signatures is not None:
            signatures.update(piece)
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(length),
        "User-Agent": "light-run",
        "Connection": "close",
        "webhook-id": run_id,
        "webhook-timestamp": str(timestamp),
    }
    if message.target.authorization is not None:
        headers["Authorization"] = message.target.authorization
    return headers if signatures is None else headers | signatures.headers()

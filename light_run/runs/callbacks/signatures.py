"""How callbacks are signed: by the older header, and as Standard Webhooks has it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac


class Signatures:
    """Signs one body with `secret`, piece by piece.

    ``X-Light-Run-Signature`` is the hex HMAC-SHA256 of the raw body; ``webhook-signature`` that of
    ``<id>.<timestamp>.<body>``, see https://www.standardwebhooks.com. `timestamp` is in seconds since the
    epoch.
    """

    def __init__(self, secret: str, message_id: str, timestamp: int) -> None:
        self._plain = hmac.new(secret.encode(), digestmod=hashlib.sha256)
        head = f"{message_id}.{timestamp}.".encode()
        self._standard = hmac.new(_standard_key(secret), head, hashlib.sha256)

    def update(self, piece: bytes) -> None:
        """Take the next piece of the body."""
        self._plain.update(piece)
        self._standard.update(piece)

    def headers(self) -> dict[str, str]:
        """The headers for the body so far."""
        return {
            "X-Light-Run-Signature": f"sha256={self._plain.hexdigest()}",
            "webhook-signature": "v1," + base64.b64encode(self._standard.digest()).decode(),
        }


def _standard_key(secret: str) -> bytes:
    # Standard Webhooks writes keys as `whsec_` and base64; any other secret is taken by its bytes.
    if secret.startswith("whsec_"):
        try:
            return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except binascii.Error:
            pass
    return secret.encode()

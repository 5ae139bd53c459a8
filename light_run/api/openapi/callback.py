"""The callback that the server sends to `callbackUrl`."""

from __future__ import annotations

from typing import Any

from light_run.api.openapi import schemas, texts


def _header(name: str, description: str, *, always: bool, **schema: Any) -> dict[str, Any]:
    schema = {"type": "string", **schema}
    return {"name": name, "in": "header", "required": always, "description": description, "schema": schema}


ENDED: dict[str, Any] = {
    "{$request.body#/callbackUrl}": {
        "post": {
            "summary": "The run has ended",
            "description": "Retried with exponential backoff for a day until it is delivered. It may arrive more than "
            "once: use `webhook-id` to recognize duplicates. Redirects are not followed.",
            "parameters": [
                _header("webhook-id", "The id of the run.", always=True),
                _header("webhook-timestamp", "Seconds since 1970.", always=True, pattern=r"^\d+$"),
                _header(
                    "webhook-signature",
                    "With a secret: the signature of Standard Webhooks.",
                    always=False,
                    pattern="^v1,",
                ),
                _header(
                    "X-Light-Run-Signature",
                    "With a secret: the HMAC-SHA256 of the raw body, in hex.",
                    always=False,
                    pattern="^sha256=[0-9a-f]{64}$",
                ),
            ],
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": schemas.RunStateSchema, "example": texts.STATE}},
            },
            "responses": {
                "2XX": {"description": "The callback is delivered."},
                "410": {"description": "The callback is rejected and not sent again."},
                "default": {"description": "The callback is retried; `Retry-After` is honoured."},
            },
        }
    }
}

"""The routes about the service itself."""

from __future__ import annotations

from collections.abc import Iterator

from light_run.api.openapi import schemas, texts
from light_run.api.openapi.operation import Operation, answer, sent

_FILENAME = {
    "name": "filename",
    "in": "path",
    "required": True,
    "description": "The file's name.",
    "schema": {"type": "string"},
    "example": "swagger-ui.css",
}


def operations() -> Iterator[Operation]:
    """All of them."""
    yield Operation(
        method="get",
        path="/health",
        name="getHealth",
        tag="Service",
        summary="Ask how the service is",
        description="Needs no token.",
        scope=None,
        answers={
            200: answer("The engine answers.", schemas.HealthSchema, texts.HEALTH),
            503: answer("It does not.", schemas.HealthSchema, {"status": "degraded", "docker": False}),
        },
    )
    yield Operation(
        method="get",
        path="/info",
        name="getInfo",
        tag="Service",
        summary="Ask what the service is like",
        description="What `light-run doctor` looks at.",
        answers={200: answer("What it is like.", schemas.InfoSchema, texts.INFO)},
    )
    yield Operation(
        method="post",
        path="/maintenance",
        name="maintain",
        tag="Service",
        summary="Remove what is not used any more",
        description="What the server does at its start and every hour: step images that were not used for "
        "`LIGHT_RUN_STEP_IMAGES_AGE` or are beyond `LIGHT_RUN_STEP_IMAGES_BYTES`, networks created here without "
        "containers and older than a day, stray containers and workspaces. Nothing without this server's label is "
        "touched.",
        scope="admin",
        answers={200: answer("What was removed.", schemas.MaintenanceSchema, texts.MAINTENANCE)},
        errors=["engine_unavailable"],
    )
    yield Operation(
        method="get",
        path="/metrics",
        name="getMetrics",
        tag="Service",
        summary="Read what is measured",
        description="For Prometheus, in the format that `Accept` asks for.",
        scope="metrics",
        answers={
            200: {
                "description": "All metrics.",
                "content": {"text/plain": {}, "application/openmetrics-text": {}},
            }
        },
    )
    yield Operation(
        method="get",
        path="/openapi.json",
        name="getOpenapi",
        tag="Service",
        summary="Get this description",
        description="A browser may send the token as the password of Basic authorization, under any name.",
        answers={200: answer("OpenAPI 3.1.", {"type": "object"}, {"openapi": "3.1.0"})},
    )
    yield Operation(
        method="get",
        path="/",
        name="getConsole",
        tag="Service",
        summary="Open the console in a browser",
        description="For clients that prefer `text/html`; to others `/` is an unknown path. The page itself needs no "
        "token. `LIGHT_RUN_CONSOLE=false` turns it off.",
        answers={
            200: {
                "description": "A page.",
                "headers": {
                    "Content-Security-Policy": sent("Nothing is loaded from elsewhere."),
                    "Cache-Control": sent("Each page has a nonce of its own.", pattern="^no-store$"),
                    "Referrer-Policy": sent("No other site is told of it.", pattern="^no-referrer$"),
                },
                "content": {"text/html": {"schema": {"type": "string"}}},
            },
            404: answer("The client does not prefer HTML.", schemas.ErrorSchema, {"error": "not_found"}),
        },
    )
    yield Operation(
        method="get",
        path="/console/{filename}",
        name="getConsoleFile",
        tag="Service",
        summary="Get a file that the console loads",
        description="Needs no token. With `ETag`.",
        scope=None,
        parameters=[{**_FILENAME, "example": "console.css"}],
        answers={
            200: {"description": "The file.", "content": {"text/*": {}}},
            304: {"description": "It has not changed."},
            404: answer("There is no such file.", schemas.ErrorSchema, {"error": "not_found"}),
        },
    )
    yield Operation(
        method="get",
        path="/docs",
        name="getDocs",
        tag="Service",
        summary="Read and try this description",
        description="Swagger UI. The page itself needs no token; it loads `/openapi.json` and sends requests with the "
        "token that the console has for this tab, or the one given to Authorize.",
        scope=None,
        answers={
            200: {
                "description": "A page.",
                "headers": {"Content-Security-Policy": sent("Nothing is loaded from elsewhere.")},
                "content": {"text/html": {"schema": {"type": "string"}}},
            }
        },
    )
    yield Operation(
        method="get",
        path="/docs/{filename}",
        name="getDocsFile",
        tag="Service",
        summary="Get a file that the page loads",
        description="Needs no token. With `ETag`.",
        scope=None,
        parameters=[_FILENAME],
        answers={
            200: {"description": "The file.", "content": {"text/*": {}}},
            304: {"description": "It has not changed."},
            404: answer("There is no such file.", schemas.ErrorSchema, {"error": "not_found"}),
        },
    )

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
        summary="Check the health of the service",
        description="Requires no token.",
        scope=None,
        answers={
            200: answer("The engine responds.", schemas.HealthSchema, texts.HEALTH),
            503: answer(
                "The engine does not respond, or cannot limit runs.",
                schemas.HealthSchema,
                {"status": "degraded", "docker": False},
            ),
        },
    )
    yield Operation(
        method="get",
        path="/info",
        name="getInfo",
        tag="Service",
        summary="Get information about the service",
        description="What `light-run doctor` checks.",
        answers={200: answer("Version, engine, disk and token.", schemas.InfoSchema, texts.INFO)},
    )
    yield Operation(
        method="post",
        path="/maintenance",
        name="maintain",
        tag="Service",
        summary="Remove unused images, networks and leftovers",
        description="The server does this when it starts and every hour. Removes step images that were not used for "
        "`LIGHT_RUN_STEP_IMAGES_AGE` or that exceed `LIGHT_RUN_STEP_IMAGES_BYTES`, networks created through light-run "
        "that are older than a day and have no containers, and stray containers and workspaces. Only objects with "
        "this server's label are removed.",
        scope="admin",
        answers={200: answer("What was removed.", schemas.MaintenanceSchema, texts.MAINTENANCE)},
        errors=["engine_unavailable"],
    )
    yield Operation(
        method="get",
        path="/metrics",
        name="getMetrics",
        tag="Service",
        summary="Get metrics",
        description="For Prometheus, in the format requested by `Accept`.",
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
        summary="Get this document",
        description="A browser may send the token as the password of Basic authorization, under any name.",
        answers={200: answer("OpenAPI 3.1.", {"type": "object"}, {"openapi": "3.1.0"})},
    )
    yield Operation(
        method="get",
        path="/",
        name="getConsole",
        tag="Service",
        summary="Open the console in a browser",
        description="For clients that prefer `text/html`; others get a 404. The page itself requires no token. "
        "`LIGHT_RUN_CONSOLE=false` disables it.",
        answers={
            200: {
                "description": "A page.",
                "headers": {
                    "Content-Security-Policy": sent("Nothing is loaded from other sites."),
                    "Cache-Control": sent("Each page has a nonce of its own.", pattern="^no-store$"),
                    "Referrer-Policy": sent("Other sites do not learn the address.", pattern="^no-referrer$"),
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
        description="Requires no token. Supports `ETag`.",
        scope=None,
        parameters=[{**_FILENAME, "example": "console.css"}],
        answers={
            200: {"description": "The file.", "content": {"text/*": {}}},
            304: {"description": "The file has not changed."},
            404: answer("The file does not exist.", schemas.ErrorSchema, {"error": "not_found"}),
        },
    )
    yield Operation(
        method="get",
        path="/docs",
        name="getDocs",
        tag="Service",
        summary="Read this document and try requests",
        description="Swagger UI. The page itself requires no token; it loads `/openapi.json` and sends requests with "
        "the token that the console has for this tab, or the one given to Authorize.",
        scope=None,
        answers={
            200: {
                "description": "A page.",
                "headers": {"Content-Security-Policy": sent("Nothing is loaded from other sites.")},
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
        description="Requires no token. Supports `ETag`.",
        scope=None,
        parameters=[_FILENAME],
        answers={
            200: {"description": "The file.", "content": {"text/*": {}}},
            304: {"description": "The file has not changed."},
            404: answer("The file does not exist.", schemas.ErrorSchema, {"error": "not_found"}),
        },
    )

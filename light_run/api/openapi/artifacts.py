"""The routes for artifacts."""

from __future__ import annotations

from collections.abc import Iterator

from light_run.api.openapi import schemas, texts
from light_run.api.openapi.operation import RUN_ID, Json, Operation, answer, header, query, sent


def operations() -> Iterator[Operation]:
    """Yield all of them."""
    attachment = sent(
        "`attachment`, or `inline`, and the name of the file.", pattern="^(attachment|inline); filename="
    )
    everything: Json = {
        **answer(
            "The list, or the archive if one was requested.",
            {"type": "array", "items": schemas.ArtifactSchema},
            texts.STATE["artifacts"],
        ),
        "headers": {"Content-Disposition": {**attachment, "required": False}},
    }
    everything["content"] |= {"application/gzip": {}, "application/zip": {}}
    yield Operation(
        method="get",
        path="/runs/{run_id}/artifacts",
        name="listArtifacts",
        tag="Artifacts",
        summary="List a run's artifacts, or download them all",
        parameters=[
            RUN_ID,
            query(
                "archive",
                "Return all artifacts in one file of this type.",
                {"type": "string", "enum": ["tar.gz", "zip"]},
            ),
        ],
        answers={200: everything},
        errors=["not_found", "artifact_not_found"],
    )
    yield _one_artifact(attachment)


def _one_artifact(attachment: Json) -> Operation:
    known = {
        "ETag": sent("The ETag of the content.", pattern='^"[^"]+"$'),
        "Accept-Ranges": sent("Range requests are supported.", enum=["bytes"]),
    }
    sandbox = sent("With `inline`.", enum=["sandbox"])
    optional = {"Content-Security-Policy": {**sandbox, "required": False}}
    headers = {
        **known,
        "Last-Modified": sent("When the file was written."),
        "Content-Disposition": attachment,
    }
    optional |= {name: {**each, "required": False} for name, each in headers.items()}
    part = sent("The range of bytes, and the size.", pattern=r"^bytes \d+-\d+/\d+$")
    entries = {"type": "array", "items": schemas.FolderEntrySchema}
    # A file that is sent inline may be of any type, this one too.
    listed = {"schema": {"anyOf": [entries, {}]}, "example": texts.FOLDER}
    return Operation(
        method="get",
        path="/runs/{run_id}/artifacts/{path}",
        name="getArtifact",
        tag="Artifacts",
        summary="Download a file, or list a directory",
        description="A `/` in `path` need not be escaped. A name that is not UTF-8 is asked for by its bytes, "
        "percent-encoded. The `headers` come with files, not with lists.",
        parameters=[
            RUN_ID,
            {
                "name": "path",
                "in": "path",
                "required": True,
                "description": "The path, as in the list of artifacts.",
                "schema": {"type": "string", "minLength": 1},
                "example": "greetings.txt",
            },
            query(
                "inline",
                "Return the file for display, sandboxed and with a type derived from its name.",
                {"type": "boolean", "default": False},
            ),
            header("Range", "The requested range, such as `bytes=0-99`. Invalid ranges are ignored."),
            header("If-Range", "An `ETag`. If it does not match, the range is ignored."),
            header("If-None-Match", "`ETag`s. If one of them matches, the response is 304."),
            header("If-Modified-Since", "A date. If the file was written before it, the response is 304."),
        ],
        answers={
            200: {
                "description": "The bytes of the file, or the entries of the directory.",
                "headers": optional,
                "content": {"application/octet-stream": {}, "application/json": listed, "*/*": {}},
            },
            206: {
                "description": "The requested range.",
                "headers": {**optional, **headers, "Content-Range": part},
                "content": {"application/octet-stream": {}, "*/*": {}},
            },
            304: {"description": "Not modified.", "headers": known},
        },
        errors=["invalid_path", "not_found", "artifact_not_found", "range_not_satisfiable"],
    )

"""The routes for what runs left."""

from __future__ import annotations

from collections.abc import Iterator

from light_run.api.openapi import schemas, texts
from light_run.api.openapi.operation import RUN_ID, Json, Operation, answer, header, query, sent


def operations() -> Iterator[Operation]:
    """All of them."""
    attachment = sent(
        "`attachment`, or `inline`, and the name of the file.", pattern="^(attachment|inline); filename="
    )
    everything: Json = {
        **answer(
            "The list, or the archive where one was asked for.",
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
                "Everything in one file of this type.",
                {"type": "string", "enum": ["tar.gz", "zip"]},
            ),
        ],
        answers={200: everything},
        errors=["not_found", "artifact_not_found"],
    )
    yield _one_artifact(attachment)


def _one_artifact(attachment: Json) -> Operation:
    known = {
        "ETag": sent("Of this very content.", pattern='^"[^"]+"$'),
        "Accept-Ranges": sent("Parts of it may be asked for.", enum=["bytes"]),
    }
    sandbox = sent("With `inline`.", enum=["sandbox"])
    optional = {"Content-Security-Policy": {**sandbox, "required": False}}
    headers = {**known, "Last-Modified": sent("When it was written."), "Content-Disposition": attachment}
    optional |= {name: {**each, "required": False} for name, each in headers.items()}
    part = sent("Which bytes, of how many.", pattern=r"^bytes \d+-\d+/\d+$")
    entries = {"type": "array", "items": schemas.FolderEntrySchema}
    # A file that is sent inline may be of any type, this one too.
    listed = {"schema": {"anyOf": [entries, {}]}, "example": texts.FOLDER}
    return Operation(
        method="get",
        path="/runs/{run_id}/artifacts/{path}",
        name="getArtifact",
        tag="Artifacts",
        summary="Download a file, or list a folder",
        description="A `/` in `path` may be written as it is. A name that is not UTF-8 is asked for by its bytes, "
        "percent-encoded. The `headers` come with files, not with lists.",
        parameters=[
            RUN_ID,
            {
                "name": "path",
                "in": "path",
                "required": True,
                "description": "As in the list of artifacts.",
                "schema": {"type": "string", "minLength": 1},
                "example": "greetings.txt",
            },
            query(
                "inline",
                "To be shown, not saved: with the type that the name promises, sandboxed.",
                {"type": "boolean", "default": False},
            ),
            header(
                "Range", "The part that is wanted, such as `bytes=0-99`; one that is not read is ignored."
            ),
            header("If-Range", "An `ETag`: everything, where it has become another."),
            header("If-None-Match", "`ETag`s: 304, where it is one of them."),
            header("If-Modified-Since", "A date: 304, where it has not been written since."),
        ],
        answers={
            200: {
                "description": "The file's bytes, or what is in the folder.",
                "headers": optional,
                "content": {"application/octet-stream": {}, "application/json": listed, "*/*": {}},
            },
            206: {
                "description": "The part of the file that was asked for.",
                "headers": {**optional, **headers, "Content-Range": part},
                "content": {"application/octet-stream": {}, "*/*": {}},
            },
            304: {"description": "The client has it already.", "headers": known},
        },
        errors=["invalid_path", "not_found", "artifact_not_found", "range_not_satisfiable"],
    )

"""``/runs/ID/artifacts``: lists, files, folders, and all artifacts in one archive."""

from __future__ import annotations

from flask import Blueprint, Response, request

from light_run.api.responses import archive, download
from light_run.api.responses.json import error_response, json_response
from light_run.api.responses.request_log import RUN
from light_run.artifacts.paths import segments
from light_run.artifacts.store import OpenFile
from light_run.errors import ArtifactNotFound, Fault, InvalidSpec
from light_run.runs.service import RunService


def blueprint(service: RunService, *, accel: str | None) -> Blueprint:
    """Return the routes below ``/runs/ID/artifacts``; nginx sends files below `accel` if that is set."""
    routes = Blueprint("artifacts", __name__)

    @routes.get("/runs/<run_id>/artifacts")
    def listed(run_id: str) -> Response:
        request.environ[RUN] = run_id
        run = service.get(run_id)
        wanted = request.args.get("archive")
        if wanted is None:
            return json_response(
                [{"path": each.path, "bytes": each.bytes, "type": each.type} for each in run.artifacts]
            )
        if wanted not in archive.KINDS:
            message = f"archive must be one of {', '.join(archive.KINDS)}"
            raise InvalidSpec([Fault(("archive",), "invalid_value", message)])
        if run.artifacts_evicted:
            return _evicted()
        return archive.response(service.artifacts, run_id, wanted)

    @routes.get("/runs/<run_id>/artifacts/<anything:rest>")
    def one(run_id: str, rest: str) -> Response:
        request.environ[RUN] = run_id
        path, inline = _own_bytes(rest), _inline_query()
        segments(path)
        if service.get(run_id).artifacts_evicted:
            return _evicted()
        found = service.artifacts.open(run_id, path)
        if isinstance(found, OpenFile):
            if path.endswith("/"):
                found.handle.close()
                raise ArtifactNotFound("the path names a folder, but the artifact is a file")
            return download.response(found, accel, inline=inline)
        return json_response([{"path": each.path, "type": each.type} for each in found])

    return routes


def _evicted() -> Response:
    return error_response(
        "artifact_not_found", 404, "the run's artifacts were deleted to make room for others"
    )


def _inline_query() -> bool:
    given = request.args.get("inline", "false")
    if given not in {"true", "false"}:
        raise InvalidSpec([Fault(("inline",), "invalid_value", "inline must be true or false")])
    return given == "true"


def _own_bytes(rest: str) -> str:
    # Werkzeug replaces bytes that are not UTF-8; the environment still has them, decoded as Latin-1.
    if "\N{REPLACEMENT CHARACTER}" not in rest:
        return rest
    raw: str = request.environ["PATH_INFO"]
    return raw.split("/", 4)[4].encode("latin-1").decode("utf-8", "surrogateescape")

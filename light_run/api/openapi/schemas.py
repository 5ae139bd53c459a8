"""The schemas of responses. They only describe responses for the OpenAPI document; nothing is serialised with them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from marshmallow import EXCLUDE, Schema, fields

from light_run.api.responses.findings import LEVELS
from light_run.engine.spec import Phase, Reason
from light_run.runs.model import Delivery, Status

Json = dict[str, Any]

# A UUID, or LIGHT_RUN_ID_PREFIX and 12 characters.
_RUN_ID: Json = {"pattern": "^[a-z0-9-]{1,64}$"}
# Text, or bytes that are not UTF-8.
_STREAM: Json = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "object",
            "properties": {
                "content": {"type": "string", "contentEncoding": "base64"},
                "encoding": {"type": "string", "enum": ["base64"]},
            },
            "required": ["content", "encoding"],
            "additionalProperties": False,
        },
    ]
}
_TIME: Json = {"format": "date-time", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.]\d{3}Z$"}


def _text(
    description: str | None = None, *, required: bool = True, null: bool = False, schema: Json | None = None
) -> fields.String:
    said = {} if description is None else {"description": description}
    metadata = {**said, **(schema or {})}
    return fields.String(required=required, allow_none=null, metadata=metadata)


def _choice(description: str | None, words: Iterable[object], *, required: bool = True) -> fields.String:
    return _text(description, required=required, schema={"enum": [str(word) for word in words]})


def _count(
    description: str, *, required: bool = True, null: bool = False, least: int | None = 0
) -> fields.Integer:
    bounds = {} if least is None else {"minimum": least}
    metadata = {"description": description, **bounds}
    return fields.Integer(required=required, allow_none=null, metadata=metadata)


def _list(inner: fields.Field[Any] | type[Schema], description: str, *, required: bool = False) -> Any:
    # What is left out where it is empty has an entry, at least.
    least = {} if required else {"minItems": 1}
    item = inner if isinstance(inner, fields.Field) else fields.Nested(inner)
    return fields.List(item, required=required, metadata={"description": description, **least})


def _part(schema: type[Schema], description: str, *, required: bool = False) -> fields.Nested:
    return fields.Nested(schema, required=required, metadata={"description": description})


class ResponseSchema(Schema):
    """A schema to which later versions may add fields."""

    class Meta:
        unknown = EXCLUDE


class FaultSchema(ResponseSchema):
    """One entry of an error's ``details``."""

    path = fields.List(
        fields.Raw(metadata={"type": ["string", "integer"]}),
        required=True,
        metadata={"description": "Where: names of fields and places in arrays, empty for the whole."},
    )
    code = _text("An error code, such as `required` or `invalid_type`.")
    message = _text("A sentence for humans: what is wrong, and what is expected.")


class ErrorSchema(ResponseSchema):
    """An error response."""

    error = _text("The error code.", schema={"pattern": "^[a-z_]+$"})
    message = _text("A sentence for humans.", required=False)
    details = _list(FaultSchema, "All errors in the fields of the request.")


class HealthSchema(ResponseSchema):
    """``GET /health``."""

    status = _choice("`degraded` if the engine does not respond or cannot limit runs.", ["ok", "degraded"])
    docker = fields.Boolean(required=True, metadata={"description": "Whether the engine answers."})
    workspace = fields.String(
        metadata={"description": "How files get in and out.", "enum": ["bind", "archive"]}
    )
    message = fields.String(
        metadata={
            "description": "Why no run is started, where the engine answers, or what runs reach that they should not."
        }
    )


class EngineSchema(ResponseSchema):
    """The container engine."""

    name = _text("The name and version of the engine; empty if it does not respond.")
    address = _text("The URL of the engine.")
    runtimes = _list(fields.String(), "The runtimes that a run can name.", required=True)
    missingLimits = _list(
        fields.String(), "What it cannot hold runs to, for which none is started.", required=True
    )


class DiskSchema(ResponseSchema):
    """The disk with the artifacts."""

    freeBytes = _count("The free bytes.")
    totalBytes = _count("The size of the disk in bytes.")
    guards = fields.List(
        fields.String(),
        required=True,
        metadata={
            "description": "What prevents a run from filling the disk: `size` measures its files, `unlinked` also "
            "those that it holds open and has deleted, `free_space` ends the run that has written the most while "
            "little is free, and `quota` is the engine's own limit of a container."
        },
    )


class AskingTokenSchema(ResponseSchema):
    """The token of this request."""

    name = _text("Null if the token has no name.", null=True)
    scopes = _list(fields.String(), "The scopes of the token.", required=True)
    required = fields.Boolean(required=True, metadata={"description": "Whether one is asked for at all."})


class MaintenanceSchema(ResponseSchema):
    """A report of what maintenance removed."""

    at = _text("When the maintenance started.", schema=_TIME)
    durationMs = _count("The duration of the maintenance.")
    containers = _count("Removed containers of ended runs.")
    workspaces = _count("Removed workspaces of ended runs.")
    cacheImages = _count("Removed images of `run` steps that were not used or exceeded the size limit.")
    danglingImages = _count("Removed images of `run` steps without a name.")
    freedBytes = _count("The size of these images, without their base images.")
    networks = _count("Removed networks that were older than a day and had no containers.")
    failed = _list(
        _choice(None, ["containers", "workspaces", "images", "networks"]),
        "The parts that could not be done; the log says why.",
        required=True,
    )


class FindingSchema(ResponseSchema):
    """The result of one check."""

    check = _text("What was checked, in one word.")
    level = _choice("How bad it is.", list(LEVELS))
    summary = _text("What was found.")
    fix = _text("How to fix a problem, or what would be better; may be empty.")


class InfoSchema(ResponseSchema):
    """``GET /info``."""

    version = _text("The version of light-run.")
    docker = fields.Boolean(required=True, metadata={"description": "Whether the engine answers."})
    engine = _part(EngineSchema, "The container engine.", required=True)
    workspace = fields.String(
        required=True,
        allow_none=True,
        metadata={
            "description": "How files get in and out; null until that is known.",
            "enum": ["bind", "archive", None],
        },
    )
    firewall = fields.String(
        required=True,
        allow_none=True,
        metadata={
            "description": "Whether rules were seen that keep runs on the default network from the engine's host and "
            "from metadata addresses; null where the engine does not answer.",
            "enum": ["active", "absent", "not_needed", None],
        },
    )
    disk = _part(DiskSchema, "Where the artifacts are.", required=True)
    maintenance = fields.Nested(
        MaintenanceSchema,
        required=True,
        allow_none=True,
        metadata={"description": "What the last maintenance removed; null before the first."},
    )
    token = _part(AskingTokenSchema, "The token that asks.", required=True)
    findings = fields.List(
        fields.Nested(FindingSchema),
        required=True,
        metadata={"description": "What the server checked of itself; `light-run doctor` shows it."},
    )


class LineSchema(ResponseSchema):
    """A line of output."""

    seq = _count("The number of the line, from 0.")
    time = _text("When the line was written.", schema=_TIME)
    stream = _choice(None, ["stdout", "stderr"])
    text = _text("The text without its newline.")


class ArtifactSchema(ResponseSchema):
    """An extracted file or directory."""

    path = _text("The path of the artifact.")
    bytes = _count("0 for a directory.")
    type = _choice(None, ["file", "directory"])


class FolderEntrySchema(ResponseSchema):
    """An entry of a directory of artifacts."""

    path = _text("The name in the directory.")
    type = _choice(None, ["file", "directory"])


class NetworkSchema(ResponseSchema):
    """An existing network."""

    name = _text("The name of the network.")
    created = fields.Boolean(required=True, metadata={"description": "Always true."})


class NetworkStateSchema(ResponseSchema):
    """Whether a network exists."""

    name = _text("The name of the network.")
    exists = fields.Boolean(required=True, metadata={"description": "Whether the engine has it."})


class NetworkCleanupResultSchema(ResponseSchema):
    """The result of a clean-up."""

    removed = _count("The number of deleted networks.")


class ExtractedSchema(ResponseSchema):
    """The result of one entry of `extract`."""

    path = _text("The entry of `extract`.")
    status = _choice(None, ["ok", "missing", "error"])
    bytes = _count("The size of the extracted files.")
    error = _text("The error message.", required=False)


class TimingsSchema(ResponseSchema):
    """The duration of each step in milliseconds."""

    queuedMs = fields.Float(required=True, metadata={"description": "Waiting for a slot."})
    imageMs = fields.Float(required=True, metadata={"description": "Pulling and building the image."})
    startMs = fields.Float(required=True, metadata={"description": "Creating and starting the container."})
    runMs = fields.Float(required=True, metadata={"description": "The command."})
    extractMs = fields.Float(required=True, metadata={"description": "Getting the artifacts out."})


class UsageSchema(ResponseSchema):
    """The resources that a run used. Unknown values are omitted."""

    cpuMs = _count("CPU time in milliseconds.", required=False)
    memoryPeakBytes = _count("The peak memory, including cached files.", required=False)
    diskBytes = _count("The minimum of disk space that the run used.", required=False)
    oomKills = _count(
        "So many of its processes, at least, were killed at the memory limit.", required=False, least=1
    )


class CallbackStateSchema(ResponseSchema):
    """The state of a callback."""

    state = _choice(None, Delivery)
    attempts = _count("The number of attempts.")
    lastStatus = _count("The HTTP status of the last response; null if there was none.", null=True)
    nextAttemptAt = _text("The time of the next attempt; null if there is none.", null=True, schema=_TIME)


class ProgressSchema(ResponseSchema):
    """The progress of a pull, in layers, or of a build, in steps."""

    done = _count("The number of completed layers or steps.")
    layers = _count("Pull: the number of layers.", required=False)
    currentBytes = _count("Pull: the downloaded bytes of the layers whose size is known.", required=False)
    totalBytes = _count("Pull: the size of these layers.", required=False)
    steps = _count("Build: the number of steps.", required=False)


class CallbackSchema(ResponseSchema):
    """The response to a redelivery."""

    callback = _part(CallbackStateSchema, "The state of the callback.", required=True)


class AcceptedSchema(ResponseSchema):
    """The response to a detached run."""

    id = _text("The id of the run.", schema=_RUN_ID)
    status = _choice("`queued` if the run has to wait.", Status)
    url = _text("The path of the run.", schema={"pattern": "^/runs/"})


class RunSummarySchema(ResponseSchema):
    """A run in a list. Fields without a value are omitted."""

    id = _text("The id of the run, a UUID.", schema=_RUN_ID)
    createdAt = _text("When the request arrived; with `?request=true`.", required=False, schema=_TIME)
    owner = _text("The name of the token of the request; with `?request=true`.", required=False)
    request = fields.Dict(
        metadata={
            "description": "The fields that were asked for, with `?request=true`: `env` as names, `files` as paths and "
            "bytes, long values cut (`truncated` is true then); no input, no contents."
        }
    )
    status = _choice("`succeeded` means exit code 0 within the timeout.", Status)
    startedAt = _text(
        "When the run left the queue; while it is queued, when the request arrived.", schema=_TIME
    )
    finishedAt = _text("When the run ended.", required=False, schema=_TIME)
    phase = _choice("What the run is doing while it is `running`.", Phase, required=False)
    progress = _part(ProgressSchema, "The progress of a pull or a build.")
    exitCode = _count("The exit code of the command, if it exited on its own.", required=False, least=None)
    signal = _text(
        "The signal that killed the command, as its exit code says.",
        required=False,
        schema={"pattern": "^SIG[A-Z0-9]+$"},
    )
    durationMs = _count("From `startedAt` to `finishedAt`.", required=False)
    artifacts = _list(ArtifactSchema, "The extracted files and directories.")
    artifactsEvicted = fields.Boolean(
        metadata={"description": "True where the artifacts were deleted to make room.", "enum": [True]}
    )
    error = _text("One sentence, unless the command exited on its own.", required=False)
    reason = _choice("Why the run ended.", Reason, required=False)
    extracted = _list(ExtractedSchema, "The result of each entry of `extract`.")
    timings = _part(TimingsSchema, "Milliseconds each step took.")
    usage = _part(UsageSchema, "The resources that the run used, as far as known.")
    parked = fields.Boolean(
        metadata={"description": "Whether the command ran in a container that was started ahead."}
    )
    logsTruncated = fields.Boolean(
        metadata={
            "description": "True where output went past the cap, or may be missing; `error` says so then.",
            "enum": [True],
        }
    )
    callback = _part(
        CallbackStateSchema, "The callback, if one was requested. Not included in the callback itself."
    )
    labels = fields.Dict(
        fields.String(),
        fields.String(),
        metadata={"description": "As the request gave them.", "minProperties": 1},
    )


class RunStateSchema(RunSummarySchema):
    """A run with its output."""

    logs = fields.List(
        fields.String(), metadata={"description": "The lines of stdout and stderr, as they came."}
    )
    stdout = fields.Raw(metadata={"description": "In place of `logs`, with `output` `split`.", **_STREAM})
    stderr = fields.Raw(metadata={"description": "In place of `logs`, with `output` `split`.", **_STREAM})

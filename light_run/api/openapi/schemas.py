"""What is answered, as marshmallow schemas; nothing is serialised by them, they only say what there is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from marshmallow import EXCLUDE, Schema, fields

from light_run.engine.spec import Phase, Reason
from light_run.runs.model import Delivery, Status

Json = dict[str, Any]

# A UUID, or LIGHT_RUN_ID_PREFIX and 12 characters.
_RUN_ID: Json = {"pattern": "^[a-z0-9-]{1,64}$"}
# Text, or bytes that are no UTF-8.
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
    """What a later version may add fields to."""

    class Meta:
        unknown = EXCLUDE


class FaultSchema(ResponseSchema):
    """One entry of an error's ``details``."""

    path = fields.List(
        fields.Raw(metadata={"type": ["string", "integer"]}),
        required=True,
        metadata={"description": "Where: names of fields and places in arrays, empty for the whole."},
    )
    code = _text("A word for a program, such as `required` or `invalid_type`.")
    message = _text("A sentence for a person: what is wrong, and what would be right.")


class ErrorSchema(ResponseSchema):
    """Every error."""

    error = _text("A word for a program.", schema={"pattern": "^[a-z_]+$"})
    message = _text("A sentence for a person, where the word is not enough.", required=False)
    details = _list(FaultSchema, "Every fault of the request at once, where it was read at all.")


class HealthSchema(ResponseSchema):
    """``GET /health``."""

    status = _choice("`degraded` where the engine does not answer, or cannot limit runs.", ["ok", "degraded"])
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

    name = _text("What it calls itself; empty where it does not answer.")
    address = _text("The URL at which the server asks it.")
    runtimes = _list(fields.String(), "Those a run may ask for.", required=True)
    missingLimits = _list(
        fields.String(), "What it cannot hold runs to, for which none is started.", required=True
    )


class DiskSchema(ResponseSchema):
    """Where the artifacts are."""

    freeBytes = _count("So many are free.")
    totalBytes = _count("Of so many.")


class AskingTokenSchema(ResponseSchema):
    """The token that asks."""

    name = _text("Null where it has none.", null=True)
    scopes = _list(fields.String(), "What it may do.", required=True)
    required = fields.Boolean(required=True, metadata={"description": "Whether one is asked for at all."})


class MaintenanceSchema(ResponseSchema):
    """What maintenance has removed."""

    at = _text("When it began.", schema=_TIME)
    durationMs = _count("How long it took.")
    containers = _count("Containers of runs that were over.")
    workspaces = _count("Workspaces of runs that were over.")
    cacheImages = _count("Cached images of `run` steps that were not used, or beyond the bytes for all.")
    danglingImages = _count("Images of `run` steps that had lost their name.")
    freedBytes = _count("The size of these images, without the images that they were built on.")
    networks = _count("Networks created here that were older than a day and had no containers.")
    failed = _list(
        _choice(None, ["containers", "workspaces", "images", "networks"]),
        "The parts that could not be done; the log says why.",
        required=True,
    )


class InfoSchema(ResponseSchema):
    """``GET /info``."""

    version = _text("Of light-run.")
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


class LineSchema(ResponseSchema):
    """A line of output."""

    seq = _count("Its number in the run, from 0.")
    time = _text("When it came.", schema=_TIME)
    stream = _choice(None, ["stdout", "stderr"])
    text = _text("Without its newline.")


class ArtifactSchema(ResponseSchema):
    """A file or directory that was kept."""

    path = _text("Relative to the artifact folder.")
    bytes = _count("0 for a directory.")
    type = _choice(None, ["file", "directory"])


class FolderEntrySchema(ResponseSchema):
    """What a folder among the artifacts has."""

    path = _text("The name in its folder.")
    type = _choice(None, ["file", "directory"])


class NetworkSchema(ResponseSchema):
    """A network that exists."""

    name = _text("Its name.")
    created = fields.Boolean(required=True, metadata={"description": "Always true."})


class NetworkStateSchema(ResponseSchema):
    """Whether there is a network."""

    name = _text("Its name.")
    exists = fields.Boolean(required=True, metadata={"description": "Whether the engine has it."})


class NetworkCleanupResultSchema(ResponseSchema):
    """The result of a clean-up."""

    removed = _count("How many networks were deleted.")


class ExtractedSchema(ResponseSchema):
    """What became of one `extract` entry."""

    path = _text("As it was asked for.")
    status = _choice(None, ["ok", "missing", "error"])
    bytes = _count("How much was kept.")
    error = _text("What went wrong, in a sentence.", required=False)


class TimingsSchema(ResponseSchema):
    """Milliseconds each step took."""

    queuedMs = fields.Float(required=True, metadata={"description": "Waiting for a slot."})
    imageMs = fields.Float(required=True, metadata={"description": "Pulling and building the image."})
    startMs = fields.Float(required=True, metadata={"description": "Creating and starting the container."})
    runMs = fields.Float(required=True, metadata={"description": "The command."})
    extractMs = fields.Float(required=True, metadata={"description": "Getting the artifacts out."})


class UsageSchema(ResponseSchema):
    """What the run has used; what cannot be known is left out."""

    cpuMs = _count("CPU time.", required=False)
    memoryPeakBytes = _count("The most memory at any moment, with cached files.", required=False)
    diskBytes = _count("So much of the disk, at least, its files took.", required=False)
    oomKills = _count(
        "So many of its processes, at least, were killed at the memory limit.", required=False, least=1
    )


class CallbackStateSchema(ResponseSchema):
    """How far the callback has come."""

    state = _choice(None, Delivery)
    attempts = _count("How often it was sent.")
    lastStatus = _count("The HTTP status of the last answer; null where there was none.", null=True)
    nextAttemptAt = _text("When it is sent next; null where it is not.", null=True, schema=_TIME)


class ProgressSchema(ResponseSchema):
    """How far a pull is, in layers, or a build, in steps."""

    done = _count("Layers in place, or steps done.")
    layers = _count("Of a pull: of so many layers.", required=False)
    currentBytes = _count("Of a pull: downloaded, of layers whose size is known yet.", required=False)
    totalBytes = _count("Of a pull: the size of those layers.", required=False)
    steps = _count("Of a build: of so many steps.", required=False)


class CallbackSchema(ResponseSchema):
    """The answer to redelivering."""

    callback = _part(CallbackStateSchema, "As it is now.", required=True)


class AcceptedSchema(ResponseSchema):
    """The answer to a detached run."""

    id = _text("The run's.", schema=_RUN_ID)
    status = _choice("`queued` where it has to wait.", Status)
    url = _text("Where to ask for it.", schema={"pattern": "^/runs/"})


class RunSummarySchema(ResponseSchema):
    """A run as it is listed; what it does not have is left out."""

    id = _text("A UUID.", schema=_RUN_ID)
    createdAt = _text("When it came in; with `?request=true`.", required=False, schema=_TIME)
    owner = _text("The name of the token that asked; with `?request=true`.", required=False)
    request = fields.Dict(
        metadata={
            "description": "The fields that were asked for, with `?request=true`: `env` as names, `files` as paths and "
            "bytes, long values cut (`truncated` is true then); no input, no contents."
        }
    )
    status = _choice("`succeeded` is exit code 0 within the time.", Status)
    startedAt = _text("When it left the queue; when it came in, as long as it waits.", schema=_TIME)
    finishedAt = _text("When it ended.", required=False, schema=_TIME)
    phase = _choice("What it is doing, while it is `running`.", Phase, required=False)
    progress = _part(ProgressSchema, "How far that is, while it is pulling or building.")
    exitCode = _count("Of the command, where it ran to an end by itself.", required=False, least=None)
    signal = _text(
        "The signal that killed the command, as its exit code says.",
        required=False,
        schema={"pattern": "^SIG[A-Z0-9]+$"},
    )
    durationMs = _count("From `startedAt` to `finishedAt`.", required=False)
    artifacts = _list(ArtifactSchema, "What was kept.")
    artifactsEvicted = fields.Boolean(
        metadata={"description": "True where the artifacts were deleted to make room.", "enum": [True]}
    )
    error = _text("One sentence, where it did not simply exit by itself.", required=False)
    reason = _choice("Why it ended.", Reason, required=False)
    extracted = _list(ExtractedSchema, "One entry for each of `extract`.")
    timings = _part(TimingsSchema, "Milliseconds each step took.")
    usage = _part(UsageSchema, "What it has used, where that is known.")
    parked = fields.Boolean(
        metadata={"description": "Whether the command ran in a container that was started ahead."}
    )
    logsTruncated = fields.Boolean(
        metadata={"description": "True where output went past the cap.", "enum": [True]}
    )
    callback = _part(CallbackStateSchema, "Where one was asked for; not in the callback itself.")
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

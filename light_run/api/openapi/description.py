"""The OpenAPI document, made with apispec from the marshmallow schemas of the API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import Schema, fields

from light_run.api.openapi import artifacts, errors, logs, networks, runs, service
from light_run.api.openapi import schemas as answers
from light_run.api.openapi import texts as words
from light_run.api.openapi.operation import Operation
from light_run.api.requests import schema as schemas
from light_run.api.requests.actions import BODIES
from light_run.api.requests.networks import cleanup_schema, network_schema
from light_run.api.requests.policy import Policy
from light_run.version import __version__

_ABOUT = """\
Runs containers from HTTP requests: files in, exit code, output and files out.

Every error is JSON, `{"error": "word"}`, usually with a `message`. This includes 404 `not_found` for an unknown path, \
and 405 `method_not_allowed` for a method that a path does not support; `Allow` lists the supported ones. Every `GET` \
route also accepts `HEAD`. Later versions may add fields to responses, but do not remove any."""
_TOKENS = " Every route except `GET /health` requires `Authorization: Bearer TOKEN`."
_SCOPES = "A token with the scope of the operation, or `admin`."
_PASSWORD = "For browsers: the token as the password, under any name."  # noqa: S105
# A browser has no other way to send a token.
_PASSWORD_PATHS = frozenset({"/openapi.json"})


def describe(policy: Policy, *, body_limit: int, secured: bool) -> dict[str, Any]:
    """Return the document as a value for JSON; see https://spec.openapis.org/oas/v3.1.0.

    `policy` and `body_limit` (bytes) are the limits of the server; `secured` is true if it requires a
    token.
    """
    spec = APISpec(
        title="light-run",
        version=__version__,
        openapi_version="3.1.0",
        info={"description": _ABOUT + _TOKENS * secured, "license": {"name": "MIT", "identifier": "MIT"}},
        # Where the document is, under whatever prefix a proxy adds.
        servers=[{"url": "."}],
        tags=[{"name": name} for name in ("Runs", "Artifacts", "Service")],
        plugins=[
            _Plugin(schema_name_resolver=lambda schema: _class_of(schema).__name__.removesuffix("Schema"))
        ],
    )
    if secured:
        scheme = {"type": "http", "scheme": "bearer", "description": _SCOPES}
        spec.components.security_scheme("bearer", scheme)
        password = {"type": "http", "scheme": "basic", "description": _PASSWORD}
        spec.components.security_scheme("basic", password)
    request = _request(policy)
    spec.components.schema("RunRequest", schema=request)
    for name, body in BODIES.items():
        described = body.schema()
        _say(described, body.descriptions, body.defaults)
        spec.components.schema(f"{name.capitalize()}Request", schema=described)
    for name, described in (("NetworkRequest", network_schema()), ("NetworkCleanup", cleanup_schema())):
        _say(described, words.NETWORK, {})
        spec.components.schema(name, schema=described)
    # As a part of a request that brings its files along in others.
    spec.components.schema("UploadRequest", schema=_without_files(request))
    # Where apispec does not look for schemas: what is within a text.
    spec.components.schema("Line", schema=answers.LineSchema)
    for word, response in errors.components():
        spec.components.response(word, response)
    for operation in (
        *runs.operations(body_limit),
        *logs.operations(),
        *artifacts.operations(),
        *networks.operations(),
        *service.operations(),
    ):
        spec.path(operation.path, operations={operation.method: _operation(operation, secured=secured)})
    found = spec.to_dict()
    # First of all, what it is.
    return {"openapi": found["openapi"], **found}


class _Converter(OpenAPIConverter):  # type: ignore[misc,unused-ignore]
    # apispec knows the keywords of OpenAPI 3.0; 3.1 has all of JSON Schema's.
    def schema2jsonschema(self, schema: Schema | type[Schema]) -> dict[str, Any]:
        """Add the metadata of the schema itself."""
        found = super().schema2jsonschema(schema)  # type: ignore[no-untyped-call,unused-ignore]
        return {**found, **getattr(schema, "json_schema", {})}

    def metadata2properties(self, field: fields.Field[Any], **kwargs: Any) -> dict[str, Any]:
        """Use all metadata."""
        return dict(field.metadata)


class _Plugin(MarshmallowPlugin):  # type: ignore[misc,unused-ignore]
    Converter = _Converter


def _class_of(schema: Schema | type[Schema]) -> type[Schema]:
    return schema if isinstance(schema, type) else type(schema)


def _without_files(request: Schema) -> Schema:
    found = type(request)(partial=("files",))
    found.fields.update(request.fields)
    return found


def _request(policy: Policy) -> Schema:
    schema = schemas.run_schema(policy)
    limits = policy.limits
    defaults = {
        "timeout": policy.timeout,
        "stepTimeout": policy.step_timeout,
        "workdir": "/app",
        "detached": False,
        "output": "lines",
        "interactive": False,
        "pull": policy.pull,
    }
    _say(schema, words.FIELDS, defaults)
    part: Any = schema.fields["limits"]
    _say(part.schema, words.LIMITS, {"memory": limits.memory, "cpus": limits.cpus, "pids": limits.pids})
    auth: Any = schema.fields["registryAuth"]
    _say(auth.schema, words.REGISTRY_AUTH, {})
    return schema


def _say(schema: Schema, texts: Mapping[str, str], defaults: Mapping[str, Any]) -> None:
    for name, field in schema.fields.items():
        default = {"default": defaults[name]} if name in defaults else {}
        field.metadata = {**field.metadata, "description": texts.get(name, ""), **default}


def _operation(operation: Operation, *, secured: bool) -> dict[str, Any]:
    guarded = secured and operation.scope is not None
    everywhere = (*errors.EVERYWHERE, *errors.GUARDED) if guarded else errors.EVERYWHERE
    answers = {str(status): answer for status, answer in operation.answers.items()}
    found: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "responses": {**answers, **errors.responses(*operation.errors, *everywhere)},
        **operation.more,
    }
    if operation.description:
        found["description"] = operation.description
    if operation.parameters:
        found["parameters"] = [dict(parameter) for parameter in operation.parameters]
    if operation.body is not None:
        found["requestBody"] = operation.body
    if secured:
        found["security"] = _security(operation)
    return found


def _security(operation: Operation) -> list[dict[str, Any]]:
    if operation.scope is None:
        return []
    schemes = ("bearer", "basic") if operation.path in _PASSWORD_PATHS else ("bearer",)
    return [{scheme: [operation.scope]} for scheme in schemes]

"""The description of a route: its parameters, body and responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from light_run.api.openapi import texts

Json = dict[str, Any]
Answers = Mapping[int, Json]

RUN_ID = {
    "name": "run_id",
    "in": "path",
    "required": True,
    "description": "The run's `id`.",
    "schema": {"type": "string", "pattern": "^[a-z0-9-]{1,64}$"},
    "example": texts.RUN_ID,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path; `scope` is the scope that a token needs, None if no token is needed.

    `answers` are OpenAPI's response objects by status, `errors` the words answered beside those that every
    route answers, `more` what else its OpenAPI object has.
    """

    method: str
    path: str
    name: str
    tag: str
    summary: str
    description: str = ""
    scope: str | None = "read"
    parameters: Sequence[Json] = ()
    body: Json | None = None
    answers: Answers = field(default_factory=dict)
    errors: Sequence[str] = ()
    more: Json = field(default_factory=dict)


def query(name: str, description: str, schema: Json) -> Json:
    """Return a query parameter."""
    return {"name": name, "in": "query", "description": description, "schema": schema}


def header(name: str, description: str, schema: Json | None = None) -> Json:
    """Return a request header; without a `schema`, any text."""
    return {"name": name, "in": "header", "description": description, "schema": schema or {"type": "string"}}


def answer(description: str, schema: Any, example: Any, **more: Any) -> Json:
    """Return a JSON response; `schema` is a marshmallow schema, or a JSON Schema around one."""
    content = {"application/json": {"schema": schema, "example": example}}
    return {"description": description, "content": content, **more}


def sent(description: str, **schema: Any) -> Json:
    """Return a header that a response always has."""
    return {"description": description, "required": True, "schema": {"type": "string", **schema}}


def links(*names: str) -> Json:
    """Return links to operations that take the ``id`` in a response."""
    parameters = {"run_id": "$response.body#/id"}
    return {"links": {name: {"operationId": name, "parameters": parameters} for name in names}}

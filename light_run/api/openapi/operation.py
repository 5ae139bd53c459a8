"""How a route is written down: what it takes and what it answers."""

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
    """One method of one path; `scope` is what a token needs for it, None where it needs no token.

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
    """A parameter after the question mark."""
    return {"name": name, "in": "query", "description": description, "schema": schema}


def header(name: str, description: str, schema: Json | None = None) -> Json:
    """A header of a request; any text, where no schema is given."""
    return {"name": name, "in": "header", "description": description, "schema": schema or {"type": "string"}}


def answer(description: str, schema: Any, example: Any, **more: Any) -> Json:
    """An answer in JSON; `schema` is a marshmallow schema, or a JSON Schema around one."""
    content = {"application/json": {"schema": schema, "example": example}}
    return {"description": description, "content": content, **more}


def sent(description: str, **schema: Any) -> Json:
    """A header that an answer always has."""
    return {"description": description, "required": True, "schema": {"type": "string", **schema}}


def links(*names: str) -> Json:
    """The operations that may follow an answer which has the ``id`` of a run."""
    parameters = {"run_id": "$response.body#/id"}
    return {"links": {name: {"operationId": name, "parameters": parameters} for name in names}}

"""Validates real responses against the server's own OpenAPI document."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import jsonschema_rs
import requests

from light_run.api import Policy
from light_run.api.openapi import errors
from light_run.api.openapi.description import describe

Json = dict[str, Any]

# What any answer may have, whatever it is about; the last one is between nginx and the server.
USUAL_HEADERS = frozenset(
    {
        *("server", "date", "connection", "content-type", "content-length", "transfer-encoding"),
        *("x-content-type-options", "x-accel-redirect"),
        *("vary", "access-control-allow-origin", "access-control-expose-headers"),
    }
)
# What is answered to a path or a method that the document does not have.
ELSEWHERE = (*errors.EVERYWHERE, *errors.GUARDED, "not_found", "method_not_allowed")


def closed(document: Json) -> Json:
    """Return `document`, changed so that responses must not have other fields."""
    parts = document["components"]
    schemas = {name: {"additionalProperties": False, **schema} for name, schema in parts["schemas"].items()}
    return {**document, "components": {**parts, "schemas": schemas}}


@cache
def document() -> Json:
    """The document as it is under the settings of most tests; answers are the same under all of them."""
    return closed(describe(Policy(), body_limit=1, secured=True))


def assert_described(response: requests.Response, *, read: bool = True) -> None:
    """Fail if a response does not match the document; `read` says whether its body has been read."""
    if response.headers.get("Server", "").startswith("nginx"):
        return
    if "Access-Control-Request-Method" in response.request.headers:
        return  # a browser asks whether it may; that is no operation of the API
    method, path = str(response.request.method).lower(), urlsplit(str(response.request.url)).path
    answer = described_answer("get" if method == "head" else method, path, response.status_code)
    problems = ["no such status there"] if answer is None else list(wrong_headers(answer, response))
    if answer is not None and read and method != "head":
        problems += wrong_body(answer, response)
    shown = response.content[:500] if read else b"..."
    assert not problems, (
        f"not as /openapi.json has it: {method} {path}: {problems}; "
        f"{response.status_code} {dict(response.headers)} {shown!r}"
    )


def wrong_callback(headers: Mapping[str, str], body: object) -> Iterator[str]:
    """What is not as the document has it in a callback; names of `headers` are in lower case."""
    (path,) = document()["paths"]["/run"]["post"]["callbacks"]["ended"].values()
    for parameter in path["post"]["parameters"]:
        name = parameter["name"].lower()
        if parameter["required"] or name in headers:
            yield from faults(parameter["schema"], headers.get(name))
    yield from faults(path["post"]["requestBody"]["content"]["application/json"]["schema"], body)


def described_answer(method: str, path: str, status: int) -> Json | None:
    """Return the description of a response, None if there is none."""
    operation = find_operation(method, path)
    answers: dict[str, Json] = document()["components"]["responses"]
    if operation is None:
        return next((answers[word] for word in ELSEWHERE if errors.WORDS[word][0] == status), None)
    answer: Json | None = operation["responses"].get(str(status))
    return answers[answer["$ref"].rpartition("/")[2]] if answer and "$ref" in answer else answer


def find_operation(method: str, path: str) -> Json | None:
    """Return the operation for `method` of `path`."""
    for template, item in document()["paths"].items():
        pattern = re.sub(r"\{\w+\}", "[^/]*", template.replace("{path}", r"[\s\S]*"))
        if method in item and re.fullmatch(pattern, path):
            found: Json = item[method]
            return found
    return None


def wrong_headers(answer: Json, response: requests.Response) -> Iterator[str]:
    """What is wrong with the headers of `response`."""
    described = {name.lower(): header for name, header in answer.get("headers", {}).items()}
    for name, header in described.items():
        if header.get("required") and name not in response.headers:
            yield f"{name} is missing"
    for name, value in response.headers.items():
        if name.lower() in described:
            schema = described[name.lower()]["schema"]
            yield from faults(schema, int(value) if schema.get("type") == "integer" else value)
        elif name.lower() not in USUAL_HEADERS:
            yield f"{name} is not there"


def wrong_body(answer: Json, response: requests.Response) -> Iterator[str]:
    """What is wrong with the body of `response`."""
    kind = response.headers.get("Content-Type", "").partition(";")[0]
    contents = answer.get("content", {})
    if not contents and (response.content or kind):
        yield "there is no body there"
    elif contents and not {kind, "*/*"} & set(contents):
        yield f"{kind} is not there"
    elif kind == "application/json" and "Content-Disposition" not in response.headers:
        yield from faults(contents[kind]["schema"], response.json())


def faults(schema: Json, value: object) -> Iterator[str]:
    """Where `value` is not as `schema`, part of the document, has it."""
    for error in validator(json.dumps(schema)).iter_errors(value):
        yield f"{list(error.instance_path)}: {error.message}"


@cache
def validator(schema: str) -> jsonschema_rs.Draft202012Validator:
    """The validator of a schema in the document, given as JSON."""
    whole = {**json.loads(schema), "components": document()["components"]}
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)

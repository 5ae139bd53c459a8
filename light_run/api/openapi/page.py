"""The document as a page shows it: references resolved, types and bounds in words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from markupsafe import Markup, escape

Json = dict[str, Any]

_METHODS = ("get", "post", "delete")
# JSON Schema's bounds, by pairs, and how a person would write them.
_BOUNDS = (
    ("minLength", "maxLength", "characters"),
    ("minItems", "maxItems", "entries"),
    ("minProperties", "maxProperties", "entries"),
    ("minimum", "maximum", ""),
)


def view(document: bytes) -> Json:
    """What the template shows of `document`."""
    spec = json.loads(document)
    common = _common(spec)
    found = [_operation(spec, path, method, each, common) for path, method, each in _operations(spec)]
    return {
        "info": spec["info"],
        "tags": [(tag["name"], [one for one in found if tag["name"] == one["tag"]]) for tag in spec["tags"]],
        "schemas": {name: _fields(each) for name, each in _ordered(spec["components"]["schemas"])},
        "common": [_answer(spec, status, spec["components"]["responses"][word]) for status, word in common],
        "prose": prose,
    }


def prose(text: str) -> Markup:
    """`text` with what is between backticks as code, and its paragraphs."""
    parts = escape(text).split("`")
    code = [Markup("<code>%s</code>") % part if index % 2 else part for index, part in enumerate(parts)]
    return Markup("<p>%s</p>") % Markup("").join(code).replace("\n\n", Markup("</p><p>"))


def _ordered(schemas: Json) -> list[tuple[str, Json]]:
    # What everybody looks for comes first.
    return sorted(schemas.items(), key=lambda item: item[0] not in {"RunRequest", "RunState"})


def _operations(spec: Json) -> Iterator[tuple[str, str, Json]]:
    for path, item in spec["paths"].items():
        for method in _METHODS:
            if method in item:
                yield path, method, item[method]


def _common(spec: Json) -> list[tuple[str, str]]:
    # The answers that all but the open routes have: said once.
    each = [
        {
            (status, answer["$ref"].rpartition("/")[2])
            for status, answer in one["responses"].items()
            if "$ref" in answer
        }
        for _, _, one in _operations(spec)
        if one.get("security", True)
    ]
    return sorted(set.intersection(*each))


def _operation(spec: Json, path: str, method: str, one: Json, common: list[tuple[str, str]]) -> Json:
    refs = {f"#/components/responses/{word}" for _, word in common}
    own = {status: each for status, each in one["responses"].items() if each.get("$ref") not in refs}
    body = one.get("requestBody", {}).get("content", {})
    security = one.get("security") or []
    return {
        "id": one["operationId"],
        "tag": one["tags"][0],
        "method": method.upper(),
        "path": path,
        "summary": one["summary"],
        "description": one.get("description", ""),
        "scope": next((scope for scheme in security for scopes in scheme.values() for scope in scopes), None),
        "parameters": [{**each, "type": _type(each["schema"])} for each in one.get("parameters", ())],
        "bodies": [_body(kind, each) for kind, each in body.items()],
        "answers": [_answer(spec, status, each) for status, each in own.items()],
        "command": _command(path, method, one),
    }


def _body(kind: str, media: Json) -> Json:
    schema = media["schema"]
    return {
        "kind": kind,
        "name": _schema_name(media),
        "description": schema.get("description", ""),
        "parts": _fields(schema) if "properties" in schema else [],
        "examples": [
            (each["summary"], _indented(each["value"])) for each in media.get("examples", {}).values()
        ],
    }


def _answer(spec: Json, status: str, answer: Json) -> Json:
    if "$ref" in answer:
        answer = spec["components"]["responses"][answer["$ref"].rpartition("/")[2]]
    content = answer.get("content", {})
    return {
        "status": status,
        "description": answer["description"],
        "headers": answer.get("headers", {}),
        "contents": [(kind, _schema_name(each)) for kind, each in content.items()],
        "example": next((_indented(each["example"]) for each in content.values() if "example" in each), None),
    }


def _fields(schema: Json) -> list[Json]:
    required = schema.get("required", ())
    return [
        {
            "name": name,
            "type": _type(each),
            "target": _schema_name({"schema": each}),
            "required": name in required,
            "description": each.get("description", ""),
        }
        for name, each in schema["properties"].items()
    ]


def _schema_name(media: Json) -> str | None:
    schema = media.get("schema", {})
    for each in (schema, schema.get("items", {}), *schema.get("allOf", ())):
        if "$ref" in each:
            return str(each["$ref"].rpartition("/")[2])
    return None


def _type(schema: Json) -> str:
    if "$ref" in schema:
        return "object"
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(json.dumps(each) for each in schema["enum"])
    names = schema.get("type", "any JSON")
    name = " or ".join(names) if isinstance(names, list) else str(names)
    if name == "array":
        name = f"array of {_plural(_type(schema.get('items', {})))}"
    bounds = [f"{low} to {high} {what}".strip() for low, high, what in _bounds(schema)]
    default = [f"default {json.dumps(schema['default'])}"] if "default" in schema else []
    return ", ".join([name, *bounds, *default])


def _plural(name: str) -> str:
    first, comma, rest = name.partition(",")
    return f"{first}s{comma}{rest}"


def _bounds(schema: Json) -> Iterator[tuple[Any, Any, str]]:
    for low, high, what in _BOUNDS:
        if high in schema:
            yield schema.get(low, 0), schema[high], what
        elif schema.get(low):
            yield schema[low], "…", what


def _indented(example: Any) -> str | None:
    return (
        example
        if example is None or isinstance(example, str)
        else json.dumps(example, indent=2, ensure_ascii=False)
    )


def _command(path: str, method: str, one: Json) -> str:
    for parameter in one.get("parameters", ()):
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", parameter["example"])
    words = ["curl"] if method == "get" else ["curl", "-X", method.upper()]
    if one.get("security"):
        words += ["-H", '"Authorization: Bearer $TOKEN"']
    words.append(f'"$URL{path}"')
    body = one.get("requestBody", {}).get("content", {}).get("application/json")
    return " ".join([*words, "-d", "@request.json"] if body else words)

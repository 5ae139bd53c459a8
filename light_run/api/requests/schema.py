"""The schema of ``POST /run``, and its conversion to a `RunSpec`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, ClassVar, get_args
from urllib.parse import urlsplit

from marshmallow import Schema, ValidationError, fields, validates_schema

from light_run.api.requests import strict_json
from light_run.api.requests.faults import FieldFault, faults, kind, shown, wrong, wrong_type
from light_run.api.requests.fields import (
    MESSAGES,
    NO_NUL,
    AnyValue,
    Boolean,
    Choice,
    Integer,
    Nested,
    Text,
    TextList,
)
from light_run.api.requests.files import Files, Stdin
from light_run.api.requests.labels import RunLabels
from light_run.api.requests.policy import Policy
from light_run.api.requests.registry_auth import registry_auth_of, registry_auth_schema
from light_run.api.requests.sandbox import limit_fields, limits_of, user_field, user_of
from light_run.api.requests.strict import Strict
from light_run.engine.spec import MIB, Pull, RunSpec
from light_run.errors import InvalidSpec
from light_run.runs.callbacks.targets import TargetRefused, parse

# The kernel executes nothing with a longer variable (MAX_ARG_STRLEN, its final NUL included), nor with more than a
# quarter of its stack's limit of 8 MiB for arguments and environment; the image and the engine add some of their own.
_LONGEST_VARIABLE = 128 * 1024 - 1
_LONGEST_EXEC = 3 * MIB // 2
# How the state of a run has its output.
LINES, SPLIT = OUTPUTS = ("lines", "split")
# A NUL and a pointer.
_EACH_VARIABLE = 9
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NETWORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_PLATFORM = re.compile(r"linux/[a-z0-9_-]{1,20}(/[a-z0-9.]{1,20})?")
_SEPARATORS = re.compile(r"[/\\]")
_BLANK_OR_CONTROL = re.compile(r"[\x00-\x20\x7f]")

# The checks below, as far as JSON Schema can express them.
_PARENT = {"pattern": r"(^|[/\\])[.][.]([/\\]|$)"}
_ABSOLUTE = {"pattern": r"^/[^\u0000]*$", "not": _PARENT}
_NETWORK_NAME = {"pattern": f"^{_NETWORK.pattern}$", "not": {"const": "host"}}
_WEB_ADDRESS = {"format": "uri", "pattern": r"^[hH][tT][tT][pP][sS]?://[^\u0000-\u0020\u007f]+$"}
_IS_INTERACTIVE = {"required": ["interactive"], "properties": {"interactive": {"const": True}}}
_IS_DETACHED = {"required": ["detached"], "properties": {"detached": {"const": True}}}


class RunRequestBase(Strict):
    """Checks across fields."""

    json_schema: ClassVar[Mapping[str, Any]] = {
        **Strict.json_schema,
        "not": {
            "anyOf": [
                {"required": ["run", "setup"]},
                {"required": ["input", "stdin"]},
                {"required": ["network", "networks"]},
                {"allOf": [_IS_INTERACTIVE, {"not": _IS_DETACHED}]},
            ]
        },
    }

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def _together(self, data: Any, original: Mapping[str, Any], **kwargs: Any) -> None:
        problems = {}
        if "run" in original and "setup" in original:
            problems["setup"] = [FieldFault("conflict", "is another name for run; use only one of them")]
        if "env" in data and (size := _exec_size(data)) > _LONGEST_EXEC:
            right = (
                f"has {size} bytes with the command, {_EACH_VARIABLE} a variable included; "
                f"all of it may have {_LONGEST_EXEC}, use files"
            )
            problems["env"] = [FieldFault("too_long", right)]
        if "network" in original and "networks" in original:
            problems["networks"] = [
                FieldFault("conflict", "cannot be combined with network; use only one of them")
            ]
        elif len(set(data.get("networks", ()))) > 1 and "none" in data["networks"]:
            problems["networks"] = [FieldFault("conflict", 'has "none" beside other networks; give it alone')]
        if "input" in original and "stdin" in original:
            problems["stdin"] = [
                FieldFault("conflict", "cannot be combined with input; use only one of them")
            ]
        if data.get("interactive") and not data.get("detached"):
            problems["interactive"] = [FieldFault("conflict", "is true without detached; give both")]
        if problems:
            raise ValidationError(problems)


def _env_size(name: str, value: str) -> int:
    return len(f"{name}={value}".encode("utf-8", "surrogatepass"))


def _exec_size(data: Mapping[str, Any]) -> int:
    # The size that the kernel counts against its limit of arguments and environment.
    command = (data.get("entrypoint") or "").encode("utf-8", "surrogatepass")
    return len(command) + sum(_env_size(name, value) + _EACH_VARIABLE for name, value in data["env"].items())


class Env(fields.Dict):
    """An object of names and strings."""

    def __init__(self) -> None:
        names, values = {"pattern": f"^{_ENV_NAME.pattern}$"}, {"type": "string", "pattern": NO_NUL}
        schema = {"propertyNames": names, "additionalProperties": values}
        super().__init__(error_messages=MESSAGES, metadata=schema)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> dict[str, str]:
        if not isinstance(value, dict):
            raise wrong_type(value, "an object of names and strings")
        problems = {}
        for name, item in value.items():
            if not _ENV_NAME.fullmatch(name):
                right = "is no name; it must be letters, digits and _, and not begin with a digit"
                problems[name] = [FieldFault("invalid_name", right)]
            elif not isinstance(item, str):
                problems[name] = [FieldFault("invalid_type", f"is {kind(item)}; it must be a string")]
            elif "\0" in item:
                problems[name] = [FieldFault("invalid_text", "has a NUL character")]
            elif (size := _env_size(name, item)) > _LONGEST_VARIABLE:
                right = f"has {size} bytes with its name; a variable may have {_LONGEST_VARIABLE}, use a file"
                problems[name] = [FieldFault("too_long", right)]
        if problems:
            raise ValidationError(problems)
        return value


def run_schema(policy: Policy) -> Schema:
    """Return the schema of a request under `policy`; the instance is shared by all threads."""
    step = Text(most=2048)
    limits = Strict.from_dict(limit_fields(policy), name="Limits")
    request = RunRequestBase.from_dict(
        {
            "image": Text(_image_check(policy), most=300, required=True),
            "files": Files(),
            "entrypoint": Text(most=2048),
            "run": TextList(step, most=50),
            "setup": TextList(step, most=50),
            "input": AnyValue(),
            "stdin": Stdin(),
            "timeout": Integer("milliseconds", least=1, most=policy.max_timeout),
            "stepTimeout": Integer("milliseconds", least=1, most=policy.step_timeout),
            "network": Text(_network_check(policy), most=100, schema=_NETWORK_NAME),
            "networks": TextList(Text(_network_check(policy), most=100, schema=_NETWORK_NAME), most=20),
            "workdir": Text(_absolute, most=200, schema=_ABSOLUTE),
            "env": Env(),
            "extract": TextList(Text(_no_parent, most=1024, schema={"not": _PARENT}), most=20),
            "detached": Boolean(),
            "output": Choice(*OUTPUTS),
            "callbackUrl": Text(_web_address, most=2048, schema=_WEB_ADDRESS),
            "callbackSecret": Text(least=16, most=200),
            "limits": Nested(limits()),
            "runtime": Text(_runtime_check(policy), most=100, schema={"enum": list(policy.runtimes)}),
            "pull": Choice(*get_args(Pull), check=_pull_check(policy)),
            "labels": RunLabels(),
            "user": user_field(policy),
            "registryAuth": Nested(registry_auth_schema()),
            "interactive": Boolean(),
            "platform": Text(_platform, most=60, schema={"pattern": f"^{_PLATFORM.pattern}$"}),
        },
        name="RunRequest",
    )
    return request()


def load(schema: Schema, body: bytes, optional: Sequence[str] = ()) -> dict[str, Any]:
    """Load the fields of `body`, converted to their types; those in `optional` may be missing.

    Raises `BadRequest` for no JSON, else `InvalidSpec`.
    """
    value, found = strict_json.parse(body)
    if not isinstance(value, dict):
        found.extend(faults([FieldFault("invalid_type", f"is {kind(value)}; it must be an object")]))
        raise InvalidSpec(found)
    loaded: Any = {}
    try:
        loaded = schema.load(value, partial=tuple(optional))
        if "input" in loaded:
            loaded["input"] = _serialised(loaded["input"])
    except ValidationError as error:
        found.extend(islice(faults(error.messages), strict_json.MOST_FAULTS))
    if found:
        raise InvalidSpec(found)
    return dict(loaded)


def run_spec(loaded: Mapping[str, Any], policy: Policy, owner: str = "") -> RunSpec:
    """Return the run that the fields `loaded` describe, for `owner`."""
    networks = tuple(dict.fromkeys(loaded.get("networks", ())))
    return RunSpec(
        image=loaded["image"],
        files=loaded.get("files", {}),
        entrypoint=loaded.get("entrypoint"),
        steps=tuple(loaded.get("run", loaded.get("setup", ()))),
        stdin=loaded.get("stdin", loaded.get("input")),
        timeout=loaded.get("timeout", policy.timeout) / 1000,
        step_timeout=loaded.get("stepTimeout", policy.step_timeout) / 1000,
        network=networks[0] if networks else loaded.get("network"),
        networks=networks[1:],
        workdir=loaded.get("workdir", "/app"),
        env=loaded.get("env", {}),
        extract=tuple(loaded.get("extract", ())),
        limits=limits_of(loaded.get("limits", {}), policy.limits),
        user=user_of(loaded["user"]) if "user" in loaded else None,
        registry_auth=registry_auth_of(loaded.get("registryAuth")),
        runtime=loaded.get("runtime"),
        pull=loaded.get("pull", policy.pull),
        owner=owner,
        interactive=loaded.get("interactive", False),
        platform=loaded.get("platform"),
    )


def _serialised(value: Any) -> bytes:
    try:
        return strict_json.serialise(value)
    except UnicodeEncodeError:
        return b""  # a lone surrogate: found, and said with its place, when the body was read
    except ValueError:
        problem = FieldFault("out_of_range", "has a number that is too large for JSON")
    except RecursionError:
        problem = FieldFault("invalid_value", "is nested too deeply")
    raise ValidationError({"input": [problem]})


def _image_check(policy: Policy) -> Any:
    def check(image: str) -> None:
        if not policy.allows_image(image):
            allowed = ", ".join(policy.images or ())
            raise wrong(
                "not_allowed", f"is {shown(image)}, which this server does not allow; it allows {allowed}"
            )

    return check


def _network_check(policy: Policy) -> Any:
    def check(network: str) -> None:
        if network == "host" or not _NETWORK.fullmatch(network):
            raise wrong(
                "not_allowed" if network == "host" or network.startswith("container:") else "invalid_value",
                f"is {shown(network)}; it must be none, bridge or the name of a network that exists",
            )
        if not policy.allows_network(network):
            allowed = ", ".join(policy.allowed_networks or ())
            raise wrong(
                "not_allowed", f"is {shown(network)}; this server allows {allowed} (LIGHT_RUN_NETWORKS)"
            )

    return check


def _runtime_check(policy: Policy) -> Any:
    def check(runtime: str) -> None:
        if runtime not in policy.runtimes:
            allowed = ", ".join(policy.runtimes)
            raise wrong("not_allowed", f"is {shown(runtime)}; this server allows {allowed}")

    return check


def _pull_check(policy: Policy) -> Any:
    def check(pull: str) -> None:
        if policy.pull == "never" and pull != "never":
            raise wrong("not_allowed", f'is {shown(pull)}; this server never pulls images: it allows "never"')

    return check


def _platform(platform: str) -> None:
    if not _PLATFORM.fullmatch(platform):
        raise wrong("invalid_value", f"is {shown(platform)}; it must be a platform such as linux/amd64")


def _absolute(path: str) -> None:
    if not path.startswith("/"):
        raise wrong("invalid_path", f"is {shown(path)}; it must be absolute, such as /app")
    _no_parent(path)


def _no_parent(path: str) -> None:
    if ".." in _SEPARATORS.split(path):
        raise wrong("invalid_path", f'is {shown(path)}; it may not have a ".." segment')


def _web_address(url: str) -> None:
    try:
        parse(url)
        right = urlsplit(url).port != 0
    except TargetRefused:
        right = False
    if not right or _BLANK_OR_CONTROL.search(url):
        raise wrong("invalid_url", "is not an http or https URL")

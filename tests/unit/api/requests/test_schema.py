"""Requests: strict types, every rule, every fault at once."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marshmallow import ValidationError
from werkzeug.exceptions import BadRequest

from light_run.api.requests import schema as schemas
from light_run.api.requests.files import relative_path
from light_run.api.requests.policy import Policy
from light_run.engine.spec import MIB, File, Limits, RunSpec
from light_run.errors import Fault, InvalidSpec

POLICY = Policy(most=Limits(memory=1024 * MIB, cpus=2.0, pids=200))
SCHEMA = schemas.run_schema(POLICY)
VALID: dict[str, Any] = {"image": "alpine:3.19", "files": {"a.sh": "echo hi"}}


def body(**fields: Any) -> bytes:
    """A valid request updated by `fields`; a value of `...` takes a field out."""
    return json.dumps(
        {name: value for name, value in {**VALID, **fields}.items() if value is not ...}
    ).encode()


def spec(**fields: Any) -> RunSpec:
    """The run that a request asks for."""
    return schemas.run_spec(schemas.load(SCHEMA, body(**fields)), POLICY)


def faults(**fields: Any) -> list[Fault]:
    """What is wrong with a request."""
    with pytest.raises(InvalidSpec) as caught:
        schemas.load(SCHEMA, body(**fields))
    return list(caught.value.faults)


def test_defaults() -> None:
    assert spec() == RunSpec(
        image="alpine:3.19", files={"a.sh": "echo hi"}, limits=Limits(), step_timeout=1200.0
    )


def test_everything() -> None:
    found = spec(
        files={"./d//a": "ä", "b": {"content": "AP8=", "encoding": "base64", "mode": "0755"}},
        entrypoint="sh a",
        run=["x", "y"],
        input={"k": [0]},
        timeout=1500,
        stepTimeout=2500,
        network="none",
        workdir="/w",
        env={"_A1": 'q"uote\n$()'},
        extract=["out", "/tmp/x"],
        limits={"memory": "256m", "cpus": 2, "pids": 7, "shm": "128m", "nofile": 99, "fsize": 0},
        user="007:staff",
        runtime="runsc",
    )
    assert found == RunSpec(
        image="alpine:3.19",
        files={"d/a": "ä", "b": File(b"\0\xff", 0o755)},
        entrypoint="sh a",
        steps=("x", "y"),
        stdin=b'{"k":[0]}',
        timeout=1.5,
        step_timeout=2.5,
        network="none",
        workdir="/w",
        env={"_A1": 'q"uote\n$()'},
        extract=("out", "/tmp/x"),
        limits=Limits(memory=256 * MIB, cpus=2.0, pids=7, shm=128 * MIB, nofile=99, fsize=0),
        user="7:staff",
        runtime="runsc",
    )


@pytest.mark.parametrize("value", [0, False, "", [], {}, None, "ü", 1.5, 2**70])
def test_every_input_counts(value: Any) -> None:
    assert spec(input=value).stdin == json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("", b""),
        ('"ü"\n', '"ü"\n'.encode()),
        ({"content": "a"}, b"a"),
        ({"content": "AP8K", "encoding": "base64"}, b"\0\xff\n"),
    ],
)
def test_stdin_is_written_as_it_is(value: Any, written: bytes) -> None:
    assert spec(stdin=value).stdin == written


def test_stdin_or_input() -> None:
    (fault,) = faults(stdin="", input=None)
    assert (fault.path, fault.code) == (("stdin",), "conflict")


def test_setup_is_run() -> None:
    assert spec(setup=["a"]).steps == ("a",)
    (fault,) = faults(setup=["a"], run=["a"])
    assert (fault.path, fault.code) == (("setup",), "conflict")


@pytest.mark.parametrize(
    ("fields", "path", "code"),
    [
        ({"registryAuth": {}}, ("registryAuth",), "required"),
        ({"registryAuth": {"username": "a"}}, ("registryAuth",), "required"),
        ({"registryAuth": {"username": "a", "token": "b"}}, ("registryAuth",), "required"),
        ({"registryAuth": {"token": ""}}, ("registryAuth", "token"), "too_short"),
        ({"registryAuth": "a:b"}, ("registryAuth",), "invalid_type"),
        ({"user": ""}, ("user",), "too_short"),
        ({"user": 1000}, ("user",), "invalid_type"),
        ({"user": "-1"}, ("user",), "invalid_value"),
        ({"user": "+0"}, ("user",), "invalid_value"),
        ({"user": "a:b:c"}, ("user",), "invalid_value"),
        ({"user": "1000:"}, ("user",), "invalid_value"),
        ({"user": "4294967296"}, ("user",), "out_of_range"),
        ({"limits": {"shm": 1}}, ("limits", "shm"), "out_of_range"),
        ({"limits": {"shm": "2g"}}, ("limits", "shm"), "out_of_range"),
        ({"limits": {"nofile": 3}}, ("limits", "nofile"), "out_of_range"),
        ({"limits": {"nofile": "64"}}, ("limits", "nofile"), "invalid_type"),
        ({"limits": {"fsize": -1}}, ("limits", "fsize"), "out_of_range"),
        ({"limits": {"gpus": 1}}, ("limits", "gpus"), "not_allowed"),
        ({"limits": {"gpus": "all"}}, ("limits", "gpus"), "not_allowed"),
        ({"limits": {"gpus": "some"}}, ("limits", "gpus"), "invalid_value"),
        ({"limits": {"gpus": 0}}, ("limits", "gpus"), "invalid_value"),
        ({"limits": {"gpus": True}}, ("limits", "gpus"), "invalid_type"),
        ({"limits": {"gpus": 1.0}}, ("limits", "gpus"), "invalid_type"),
        ({"labels": []}, ("labels",), "invalid_type"),
        ({"labels": {str(number): "" for number in range(21)}}, ("labels",), "too_long"),
        ({"labels": {"a b": ""}}, ("labels", "a b"), "invalid_name"),
        ({"labels": {"a" * 65: ""}}, ("labels", "a" * 65), "invalid_name"),
        ({"labels": {"a": 1}}, ("labels", "a"), "invalid_type"),
        ({"labels": {"a": "b" * 201}}, ("labels", "a"), "too_long"),
        ({"labels": {"a": "b\0"}}, ("labels", "a"), "invalid_text"),
        ({"image": ...}, ("image",), "required"),
        ({"image": ""}, ("image",), "too_short"),
        ({"image": "a" * 301}, ("image",), "too_long"),
        ({"image": 1}, ("image",), "invalid_type"),
        ({"image": None}, ("image",), "invalid_type"),
        ({"image": "a\0"}, ("image",), "invalid_text"),
        ({"files": ...}, ("files",), "required"),
        ({"files": {}}, ("files",), "too_short"),
        ({"files": [["a", "b"]]}, ("files",), "invalid_type"),
        ({"files": {"a": 1}}, ("files", "a"), "invalid_type"),
        ({"files": {"a": {"encoding": "utf8"}}}, ("files", "a", "content"), "required"),
        ({"files": {"a": {"content": "", "mod": "0755"}}}, ("files", "a", "mod"), "unknown_field"),
        ({"files": {"a": {"content": "", "mode": 755}}}, ("files", "a", "mode"), "invalid_value"),
        ({"files": {"a": {"content": "", "mode": "4755"}}}, ("files", "a", "mode"), "invalid_value"),
        ({"files": {"a": {"content": "", "mode": "0778"}}}, ("files", "a", "mode"), "invalid_value"),
        ({"files": {"a": {"content": "", "encoding": "hex"}}}, ("files", "a", "encoding"), "invalid_value"),
        (
            {"files": {"a": {"content": "a", "encoding": "base64"}}},
            ("files", "a", "content"),
            "invalid_base64",
        ),
        (
            {"files": {"a": {"content": "YQ==\n", "encoding": "base64"}}},
            ("files", "a", "content"),
            "invalid_base64",
        ),
        ({"files": {"a": "", "./a": ""}}, ("files", "./a"), "invalid_path"),
        ({"entrypoint": ""}, ("entrypoint",), "too_short"),
        ({"entrypoint": "x" * 2049}, ("entrypoint",), "too_long"),
        ({"entrypoint": ["a"]}, ("entrypoint",), "invalid_type"),
        ({"run": "x"}, ("run",), "invalid_type"),
        ({"run": ["x"] * 51}, ("run",), "too_long"),
        ({"run": ["x", ""]}, ("run", 1), "too_short"),
        ({"stdin": 1}, ("stdin",), "invalid_type"),
        ({"stdin": None}, ("stdin",), "invalid_type"),
        ({"stdin": {"content": "", "mode": "0755"}}, ("stdin", "mode"), "unknown_field"),
        ({"stdin": {"content": "?", "encoding": "base64"}}, ("stdin", "content"), "invalid_base64"),
        ({"timeout": 0}, ("timeout",), "out_of_range"),
        ({"timeout": 3_600_001}, ("timeout",), "out_of_range"),
        ({"timeout": 1.5}, ("timeout",), "invalid_type"),
        ({"timeout": 1.0}, ("timeout",), "invalid_type"),
        ({"timeout": "10"}, ("timeout",), "invalid_type"),
        ({"timeout": True}, ("timeout",), "invalid_type"),
        ({"timeout": 10**4000}, ("timeout",), "out_of_range"),
        ({"network": "host"}, ("network",), "not_allowed"),
        ({"network": "container:x"}, ("network",), "not_allowed"),
        ({"network": "a b"}, ("network",), "invalid_value"),
        ({"network": "-x"}, ("network",), "invalid_value"),
        ({"workdir": "app"}, ("workdir",), "invalid_path"),
        ({"workdir": "/a/../b"}, ("workdir",), "invalid_path"),
        ({"env": []}, ("env",), "invalid_type"),
        ({"env": {"1A": ""}}, ("env", "1A"), "invalid_name"),
        ({"env": {"A=B": ""}}, ("env", "A=B"), "invalid_name"),
        ({"env": {"": ""}}, ("env", ""), "invalid_name"),
        ({"env": {"A\n": ""}}, ("env", "A\n"), "invalid_name"),
        ({"env": {"A": 1}}, ("env", "A"), "invalid_type"),
        ({"env": {"A": "\0"}}, ("env", "A"), "invalid_text"),
        ({"env": {"A": "x" * (128 * 1024 - 2)}}, ("env", "A"), "too_long"),
        # In bytes, not in characters.
        ({"env": {"A": "\u20ac" * 44_000}}, ("env", "A"), "too_long"),
        ({"env": {f"A{number}": "x" * 65_000 for number in range(25)}}, ("env",), "too_long"),
        ({"env": {f"A{number}": "" for number in range(120_000)}}, ("env",), "too_long"),
        ({"extract": ["a"] * 21}, ("extract",), "too_long"),
        ({"extract": ["a/../b"]}, ("extract", 0), "invalid_path"),
        ({"extract": [""]}, ("extract", 0), "too_short"),
        ({"detached": "yes"}, ("detached",), "invalid_type"),
        ({"detached": 1}, ("detached",), "invalid_type"),
        ({"callbackUrl": "ftp://x/"}, ("callbackUrl",), "invalid_url"),
        ({"callbackUrl": "http://"}, ("callbackUrl",), "invalid_url"),
        ({"callbackUrl": "http://x:99999/"}, ("callbackUrl",), "invalid_url"),
        ({"callbackUrl": "http://x/\r\nA: b"}, ("callbackUrl",), "invalid_url"),
        ({"callbackUrl": "http://[x/"}, ("callbackUrl",), "invalid_url"),
        ({"callbackUrl": "http://example..com/"}, ("callbackUrl",), "invalid_url"),
        ({"callbackUrl": f"http://{'a' * 64}.com/"}, ("callbackUrl",), "invalid_url"),
        ({"callbackSecret": "x" * 15}, ("callbackSecret",), "too_short"),
        ({"callbackSecret": "x" * 201}, ("callbackSecret",), "too_long"),
        ({"limits": []}, ("limits",), "invalid_type"),
        ({"limits": {"memory": "2g"}}, ("limits", "memory"), "out_of_range"),
        ({"limits": {"memory": "much"}}, ("limits", "memory"), "invalid_value"),
        ({"limits": {"memory": 1024}}, ("limits", "memory"), "out_of_range"),
        ({"limits": {"memory": 1e9}}, ("limits", "memory"), "invalid_type"),
        ({"limits": {"cpus": 0}}, ("limits", "cpus"), "out_of_range"),
        ({"limits": {"cpus": 3}}, ("limits", "cpus"), "out_of_range"),
        ({"limits": {"cpus": True}}, ("limits", "cpus"), "invalid_type"),
        ({"limits": {"pids": 201}}, ("limits", "pids"), "out_of_range"),
        ({"limits": {"pid": 1}}, ("limits", "pid"), "unknown_field"),
        ({"runtime": "kata"}, ("runtime",), "not_allowed"),
        ({"timeuot": 1}, ("timeuot",), "unknown_field"),
    ],
)
def test_one_fault(fields: dict[str, Any], path: tuple[str | int, ...], code: str) -> None:
    (fault,) = faults(**fields)
    assert (fault.path, fault.code) == (path, code)
    assert str(path[0]) in fault.message


def test_an_unknown_field_names_the_one_meant() -> None:
    assert "timeout" in faults(timeuot=1)[0].message
    assert "callbackUrl" in faults(callbackURL="x")[0].message
    assert "memory" in faults(limits={"memroy": 1})[0].message


def test_all_faults_at_once() -> None:
    found = faults(
        image=..., files={"../x": "", "/y": ""}, timeout="1", env={"1": ""}, what=1, limits={"cpus": "1"}
    )
    assert {fault.path for fault in found} == {
        ("image",),
        ("files", "../x"),
        ("files", "/y"),
        ("timeout",),
        ("env", "1"),
        ("what",),
        ("limits", "cpus"),
    }


def test_messages_show_no_secret() -> None:
    secret = "canary-0123456789"
    found = faults(
        env={"A": [secret], "1": secret},
        files={"a": {"content": secret, "encoding": "base64", "mode": secret}, "b": [secret]},
        callbackSecret=secret * 20,
        stdin={"content": secret, "encoding": secret},
    )
    assert len(found) == 6
    assert not [fault for fault in found if secret in fault.message]


@pytest.mark.parametrize("value", ['{"image"', "3", "null", "[]", '"x"', ""])
def test_a_body_that_is_no_object(value: str) -> None:
    with pytest.raises((InvalidSpec, BadRequest)):
        schemas.load(SCHEMA, value.encode())


def test_faults_of_the_document_and_of_the_fields_come_together() -> None:
    with pytest.raises(InvalidSpec) as caught:
        schemas.load(SCHEMA, b'{"image":"a","image":"b","files":{"a":"\\ud800"},"timeout":0}')
    assert [fault.code for fault in caught.value.faults] == ["duplicate_key", "invalid_text", "out_of_range"]


def test_an_input_that_json_cannot_say() -> None:
    with pytest.raises(InvalidSpec) as caught:
        schemas.load(SCHEMA, b'{"image":"a","files":{"a":""},"input":[1e999]}')
    assert caught.value.faults[0].path == ("input",)


@pytest.mark.parametrize(
    ("path", "relative"),
    [
        ("a", "a"),
        ("a/b", "a/b"),
        ("./a//b/./c", "a/b/c"),
        (".git/config", ".git/config"),
        ("..a/b..", "..a/b.."),
        ("a\\b", "a\\b"),
        ("-rf", "-rf"),
        ("new\nline", "new\nline"),
        ("ü/日本", "ü/日本"),
        ("C:x", "C:x"),
        ("x" * 255, "x" * 255),
        ("/".join(["x"] * 512), "/".join(["x"] * 512)),
    ],
)
def test_paths_that_stay_below(path: str, relative: str) -> None:
    assert spec(files={path: ""}).files == {relative: ""}


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/etc/passwd",
        "\\x",
        "C:\\x",
        "c:/x",
        "..",
        "../x",
        "a/../../x",
        "a\\..\\x",
        "a/..\\x",
        "a/..",
        ".",
        "./",
        "a/",
        "a/.",
        "a\0b",
        "x" * 256,
        "ü" * 128,
        "x/" * 512 + "x",
        ("\N{GRINNING FACE}" * 60 + "/") * 16 + "x",
    ],
)
def test_paths_that_do_not(path: str) -> None:
    (fault,) = faults(files={path: ""})
    assert (fault.path, fault.code) == (("files", path), "invalid_path")


@pytest.mark.parametrize(
    ("paths", "wrong"),
    [
        (["a", "a/b"], ["a/b"]),
        (["a/b/c", "a", "a/d", "ab"], ["a/b/c", "a/d"]),
        (["a", "a-b", "a.b/c", "a/b"], ["a/b"]),
        (["./x/y/z", "x/y"], ["./x/y/z"]),
        (["a/b", "a/c"], []),
    ],
)
def test_a_file_is_no_folder(paths: list[str], wrong: list[str]) -> None:
    files = dict.fromkeys(paths, "")
    if wrong:
        assert sorted(str(fault.path[1]) for fault in faults(files=files)) == sorted(wrong)
    else:
        assert spec(files=files).files == files


def test_base64_is_decoded_to_the_byte() -> None:
    raw = bytes(range(256)) * 100
    found = spec(files={"a": {"content": base64.b64encode(raw).decode(), "encoding": "base64"}})
    assert found.files == {"a": File(raw)}


@pytest.mark.parametrize(
    ("most", "asked", "allowed"),
    [("all", "all", True), ("all", 9, True), (2, 2, True), (2, 3, False), (2, "all", False)],
)
def test_gpus(most: Any, asked: Any, allowed: bool) -> None:
    schema = schemas.run_schema(Policy(most=Limits(gpus=most)))
    raw = body(limits={"gpus": asked})
    if allowed:
        assert schemas.run_spec(schemas.load(schema, raw), POLICY).limits == Limits(gpus=asked)
        return
    with pytest.raises(InvalidSpec, match="LIGHT_RUN_GPUS"):
        schemas.load(schema, raw)


def test_the_policy_s_patterns() -> None:
    policy = Policy(images=("alpine:*",), networks=("none",), runtimes=("runc",))
    schema = schemas.run_schema(policy)
    with pytest.raises(InvalidSpec) as caught:
        schemas.load(schema, body(image="python", network="bridge", runtime="runsc"))
    assert {(fault.path[0], fault.code) for fault in caught.value.faults} == {
        ("image", "not_allowed"),
        ("network", "not_allowed"),
        ("runtime", "not_allowed"),
    }


def test_a_small_request_takes_well_under_a_millisecond() -> None:
    raw = body(entrypoint="sh a.sh", network="none", env={"A": "b"}, extract=["out"], input={"x": 1})

    def times() -> Iterator[float]:
        for _ in range(200):
            began = time.perf_counter()
            schemas.run_spec(schemas.load(SCHEMA, raw), POLICY)
            yield time.perf_counter() - began

    assert min(times()) < 0.001


def test_hundreds_of_thousands_of_wrong_files_are_answered_in_time() -> None:
    raw = b'{"image":"a","files":{' + b",".join(b'"../%d":""' % number for number in range(300_000)) + b"}}"
    began = time.perf_counter()
    with pytest.raises(InvalidSpec) as caught:
        schemas.load(SCHEMA, raw)
    assert len(caught.value.faults) <= 1000
    assert time.perf_counter() - began < 10


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(), below, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from([*SCHEMA.fields, "timeot", "Image", ""])


@settings(max_examples=300)
@given(st.dictionaries(FIELDS, JSON, max_size=8))
def test_any_json_is_taken_or_refused_with_faults(fields: dict[str, Any]) -> None:
    # Whatever else is raised fails this test.
    with suppress(InvalidSpec, BadRequest):
        schemas.run_spec(schemas.load(SCHEMA, json.dumps(fields).encode()), POLICY)


@settings(max_examples=300)
@given(st.binary(max_size=80))
def test_any_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises((InvalidSpec, BadRequest)):
        schemas.load(SCHEMA, raw)


@settings(max_examples=500)
@given(st.text(alphabet="./\\ab:\0", max_size=12))
def test_no_path_leads_outside(path: str) -> None:
    try:
        found = relative_path(path)
    except ValidationError:
        return
    assert not found.startswith("/")
    assert ".." not in found.replace("\\", "/").split("/")
    assert found == relative_path(found)

"""Every field of a run request: what is taken and what is refused."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.support.server import Server, run_request


def invalid(field: str, value: Any, *, inside: str | int | None = None, name: str | None = None) -> Any:
    """A case: `value` for `field` is refused, the fault's path beginning with the field and `inside`."""
    path = [field] if inside is None else [field, inside]
    return pytest.param(field, value, path, id=f"{field}={name or repr(value)[:40]}")


INVALID = [
    invalid("image", ..., name="missing"),
    invalid("image", ""),
    invalid("image", "x" * 301, name="301 characters"),
    invalid("image", 5),
    invalid("image", None),
    invalid("image", ["busybox"]),
    invalid("files", ..., name="missing"),
    invalid("files", {}),
    invalid("files", None),
    invalid("files", []),
    invalid("files", "a.txt"),
    invalid("files", {"": "x"}, inside=""),
    invalid("files", {"p" * 1025: "x"}, inside="p" * 1025, name="path of 1025 characters"),
    invalid("files", {"/x": "x"}, inside="/x"),
    invalid("files", {"C:\\x": "x"}, inside="C:\\x"),
    invalid("files", {"c:/x": "x"}, inside="c:/x"),
    invalid("files", {"\\x": "x"}, inside="\\x"),
    invalid("files", {"..": "x"}, inside=".."),
    invalid("files", {"../x": "x"}, inside="../x"),
    invalid("files", {"a/../x": "x"}, inside="a/../x"),
    invalid("files", {"a/..": "x"}, inside="a/.."),
    invalid("files", {"..\\x": "x"}, inside="..\\x"),
    invalid("files", {"a\\..\\x": "x"}, inside="a\\..\\x"),
    invalid("files", {"a/..\\x": "x"}, inside="a/..\\x"),
    invalid("files", {"a\0b": "x"}, inside="a\0b"),
    invalid("files", {"a": 1}, inside="a"),
    invalid("files", {"a": None}, inside="a"),
    invalid("files", {"a": ["x"]}, inside="a"),
    invalid("files", {"a": True}, inside="a"),
    invalid("files", {"a": {}}, inside="a"),
    invalid("files", {"a": {"content": 1}}, inside="a"),
    invalid("files", {"a": {"content": "x", "encoding": "latin1"}}, inside="a"),
    invalid("files", {"a": {"content": "x", "mode": "0999"}}, inside="a"),
    invalid("files", {"a": {"content": "x", "mode": "rwx"}}, inside="a"),
    invalid("files", {"a": {"content": "x", "mode": 493}}, inside="a"),
    invalid("files", {"a": {"content": "x", "other": 1}}, inside="a"),
    invalid("files", {"a": {"content": "*not base64*", "encoding": "base64"}}, inside="a"),
    invalid("files", {"a": {"content": "YQ", "encoding": "base64"}}, inside="a"),
    invalid("entrypoint", ""),
    invalid("entrypoint", "x" * 2049, name="2049 characters"),
    invalid("entrypoint", 1),
    invalid("entrypoint", ["true"]),
    invalid("entrypoint", None),
    invalid("entrypoint", "a\0b"),
    invalid("run", "true"),
    invalid("run", None),
    invalid("run", {"0": "true"}),
    invalid("run", ["true"] * 51, name="51 steps"),
    invalid("run", ["true", ""], inside=1),
    invalid("run", ["x" * 2049], inside=0, name="step of 2049 characters"),
    invalid("run", [1], inside=0),
    invalid("run", [None], inside=0),
    invalid("setup", "true"),
    invalid("setup", ["true", ""], inside=1),
    invalid("timeout", 0),
    invalid("timeout", -1),
    invalid("timeout", 3_600_001),
    invalid("timeout", 1.5),
    invalid("timeout", 1000.0),
    invalid("timeout", "10"),
    invalid("timeout", True),
    invalid("timeout", None),
    invalid("timeout", [1]),
    invalid("timeout", 10**30),
    invalid("network", 1),
    invalid("network", "n" * 101, name="101 characters"),
    invalid("network", None),
    invalid("network", True),
    invalid("workdir", "app"),
    invalid("workdir", "./app"),
    invalid("workdir", ""),
    invalid("workdir", "/" + "w" * 200, name="201 characters"),
    invalid("workdir", "/a\0b"),
    invalid("workdir", 1),
    invalid("workdir", None),
    invalid("env", None),
    invalid("env", []),
    invalid("env", "A=B"),
    invalid("env", {"": "x"}, inside=""),
    invalid("env", {"1A": "x"}, inside="1A"),
    invalid("env", {"A-B": "x"}, inside="A-B"),
    invalid("env", {"A B": "x"}, inside="A B"),
    invalid("env", {"A=B": "x"}, inside="A=B"),
    invalid("env", {"\u00c4": "x"}, inside="\u00c4"),
    invalid("env", {"A\n": "x"}, inside="A\n"),
    invalid("env", {"A": 1}, inside="A"),
    invalid("env", {"A": None}, inside="A"),
    invalid("env", {"A": True}, inside="A"),
    invalid("env", {"A": "x\0y"}, inside="A"),
    invalid("extract", "a"),
    invalid("extract", None),
    invalid("extract", ["a"] * 21, name="21 entries"),
    invalid("extract", [""], inside=0),
    invalid("extract", ["a" * 1025], inside=0, name="entry of 1025 characters"),
    invalid("extract", ["a", "../b"], inside=1),
    invalid("extract", ["/app/../etc"], inside=0),
    invalid("extract", [".."], inside=0),
    invalid("extract", ["a\0b"], inside=0),
    invalid("extract", [1], inside=0),
    invalid("detached", "yes"),
    invalid("detached", "true"),
    invalid("detached", 1),
    invalid("detached", 0),
    invalid("detached", None),
    invalid("callbackUrl", ""),
    invalid("callbackUrl", "ftp://localhost/x"),
    invalid("callbackUrl", "file:///etc/passwd"),
    invalid("callbackUrl", "localhost/x"),
    invalid("callbackUrl", "http://"),
    invalid("callbackUrl", "http:///x"),
    invalid("callbackUrl", "http://localhost:port/"),
    invalid("callbackUrl", 1),
    invalid("callbackUrl", None),
    invalid("callbackSecret", "x" * 15, name="15 characters"),
    invalid("callbackSecret", "x" * 201, name="201 characters"),
    invalid("callbackSecret", 1),
    invalid("callbackSecret", None),
    invalid("limits", None),
    invalid("limits", 1),
    invalid("limits", []),
    invalid("limits", {"memory": -1}, inside="memory"),
    invalid("limits", {"memory": 0}, inside="memory"),
    invalid("limits", {"memory": 1.5}, inside="memory"),
    invalid("limits", {"memory": "lots"}, inside="memory"),
    invalid("limits", {"memory": "-5m"}, inside="memory"),
    invalid("limits", {"memory": True}, inside="memory"),
    invalid("limits", {"memory": "900g"}, inside="memory"),
    invalid("limits", {"memory": 2**60}, inside="memory"),
    invalid("limits", {"cpus": 0}, inside="cpus"),
    invalid("limits", {"cpus": -1}, inside="cpus"),
    invalid("limits", {"cpus": "1"}, inside="cpus"),
    invalid("limits", {"cpus": True}, inside="cpus"),
    invalid("limits", {"cpus": 100_000}, inside="cpus"),
    invalid("limits", {"pids": 0}, inside="pids"),
    invalid("limits", {"pids": -1}, inside="pids"),
    invalid("limits", {"pids": 1.5}, inside="pids"),
    invalid("limits", {"pids": "10"}, inside="pids"),
    invalid("limits", {"pids": 10**9}, inside="pids"),
    invalid("limits", {"disk": 1}, inside="disk"),
    invalid("runtime", "no-such-runtime"),
    invalid("runtime", ""),
    invalid("runtime", 1),
    invalid("runtime", None),
    invalid("nonsense", 1),
]


@pytest.mark.parametrize(("field", "value", "path"), INVALID)
def test_refused(server: Server, field: str, value: Any, path: list[str | int]) -> None:
    response = server.post_run(**{field: value})
    assert response.status_code == 400, (response.status_code, response.text[:500])
    answer = response.json()
    assert answer["error"] == "bad_request"
    assert len(answer["details"]) == 1, answer
    (fault,) = answer["details"]
    assert fault["path"][: len(path)] == path
    assert fault["code"]
    assert fault["message"]


@pytest.mark.parametrize("paths", [("a", "a/b"), ("a/b", "a"), ("a/b/c", "a/b"), ("a/b/c/d", "a")])
def test_a_file_that_is_also_a_folder_is_refused(server: Server, paths: tuple[str, str]) -> None:
    response = server.post_run(files=dict.fromkeys(paths, "x"))
    assert response.status_code == 400
    (fault,) = response.json()["details"]
    assert fault["path"][0] == "files"
    assert fault["path"][1] in paths


@pytest.mark.parametrize("value", ["\ud800", "a\udfffb"])
@pytest.mark.parametrize("field", ["content", "path", "env", "entrypoint", "input"])
def test_lone_surrogates_are_never_a_server_error(server: Server, field: str, value: str) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "content": {"files": {"a": value}},
        "path": {"files": {value: "x"}},
        "env": {"env": {"A": value}},
        "entrypoint": {"entrypoint": value},
        "input": {"input": value},
    }
    changed = bodies[field]
    response = server.post_run(**changed)
    # JSON may write one to stdin as \\ud800; no file, name or argument can hold it.
    assert response.status_code == 400 or (field == "input" and response.status_code == 200), response.text
    if response.status_code == 400:
        assert response.json()["details"][0]["path"][0] in changed


def valid(field: str, value: Any, *, name: str | None = None) -> Any:
    """A case: `value` for `field` is taken, and the run succeeds."""
    return pytest.param(field, value, id=f"{field}={name or repr(value)[:40]}")


VALID = [
    valid("files", {"a": ""}),
    valid("files", {"..a": "x", "a..": "x", "...": "x", "a..b/c": "x"}),
    valid("files", {"a b": "x", "-rf": "x", "--": "x", "*": "x", "$(id)": "x", "'\"`": "x"}),
    valid("files", {"/".join(["d"] * 512): "x"}, name="path of 1023 characters"),
    valid("files", {"n" * 255: "x"}, name="name of 255 characters"),
    valid("files", {f"many/{number}": "x" for number in range(500)}, name="500 files"),
    valid("files", {"a": {"content": "x"}}),
    valid("files", {"a": {"content": "x", "encoding": "utf8"}}),
    valid("files", {"a": {"content": "eA==", "encoding": "base64", "mode": "0755"}}),
    valid("files", {"a": {"content": "", "encoding": "base64"}}),
    valid("entrypoint", "true " + "#" * (2048 - 5), name="2048 characters"),
    valid("run", []),
    valid("setup", []),
    valid("timeout", 3_600_000),
    valid("network", "none"),
    valid("network", "bridge"),
    valid("network", ..., name="left out"),
    valid("workdir", "/app"),
    valid("workdir", "/" + "w" * 199, name="200 characters"),
    valid("workdir", "/some/where/deep"),
    valid("workdir", "/with blank"),
    valid("env", {}),
    valid("env", {"_": "x", "a1_B": "", "LONG": "x" * 10_000}, name="names of every kind"),
    valid("extract", []),
    valid("extract", ["main.txt"] * 20, name="20 entries"),
    valid("extract", ["..a", "a..", "e" * 1024], name="names that only look like parents"),
    valid("detached", False),
    valid("callbackSecret", "s" * 16, name="16 characters"),
    valid("callbackSecret", "s" * 200, name="200 characters"),
    valid("limits", {}),
    valid("limits", {"memory": 64 * 1024 * 1024}),
    valid("limits", {"memory": "64m"}),
    valid("limits", {"cpus": 0.5}),
    valid("limits", {"cpus": 1}),
    valid("limits", {"pids": 50}),
    valid("limits", {"memory": "512m", "cpus": 1.0, "pids": 100}),
    valid("runtime", "runc"),
    valid("input", {"a": 1}),
]


@pytest.mark.parametrize(("field", "value"), VALID)
def test_taken(server: Server, field: str, value: Any) -> None:
    state = server.run(**{field: value})
    assert state["status"] == "succeeded", state


def test_the_shortest_timeout(server: Server) -> None:
    assert server.run(timeout=1, entrypoint="sleep 30")["reason"] == "timeout"


def test_an_image_name_of_300_characters_is_taken(server: Server) -> None:
    # On a registry where nobody listens: the run fails, the request does not.
    name = "127.0.0.1:1/" + "x" * 288
    assert len(name) == 300
    assert server.run(image=name)["status"] == "failed"


@pytest.mark.parametrize("image", ["UPPER", "a b", "a:b:c", "-", "a//b", "http://x/y", "x\ny", "\u00e4"])
def test_an_image_name_that_cannot_be_one_fails_in_words(server: Server, image: str) -> None:
    response = server.post_run(image=image)
    assert response.status_code in (200, 400)
    if response.status_code == 200:
        state = response.json()
        assert state["status"] == "failed"
        assert state["error"]
    else:
        assert response.json()["details"][0]["path"] == ["image"]


def test_a_name_no_file_system_holds_is_no_server_error(server: Server) -> None:
    response = server.post_run(files={"n" * 256: "x"})
    assert response.status_code == 400
    assert response.json()["details"][0]["path"][0] == "files"


@pytest.mark.parametrize(
    "value",
    [
        0,
        1,
        -1.5,
        False,
        True,
        "",
        "text",
        [],
        [1, "two", None],
        {},
        {"a": {"b": [1]}},
        None,
        "\u00fc\u4e2d\U0001f600",
        2**70,
    ],
)
def test_input_is_what_stdin_holds(server: Server, value: Any) -> None:
    state = server.run(
        image="light-run-test/python:latest",
        input=value,
        entrypoint="python3 main.py",
        files={"main.py": "import sys, json\nprint(ascii(json.loads(sys.stdin.buffer.read())))\n"},
    )
    assert state["logs"] == [ascii(value)]


@pytest.mark.parametrize("detached", [False, True])
def test_raw_stdin_arrives_byte_for_byte(server: Server, detached: bool) -> None:
    content = bytes(range(256)) * 5000
    fields: dict[str, Any] = {
        "stdin": {"content": base64.b64encode(content).decode(), "encoding": "base64"},
        "entrypoint": "cat > out.bin",
        "extract": ["out.bin"],
    }
    state = server.wait_done(server.start(**fields)) if detached else server.run(**fields)
    assert server.artifact(state["id"], "out.bin").content == content


def test_stdin_is_at_its_end_where_no_input_is_given(server: Server) -> None:
    state = server.run(entrypoint="wc -c; echo end")
    assert [line.strip() for line in state["logs"]] == ["0", "end"]


def test_large_input_arrives_whole(server: Server) -> None:
    state = server.run(input="x" * 5_000_000, entrypoint="wc -c")
    assert state["logs"][0].strip() == str(5_000_000 + 2)


def test_input_that_nobody_reads_is_no_failure(server: Server) -> None:
    assert server.run(input="x" * 5_000_000, entrypoint="exit 0")["status"] == "succeeded"


def test_base64_content_and_mode(server: Server) -> None:
    content = bytes(range(256))
    state = server.run(
        files={
            "data.bin": {"content": base64.b64encode(content).decode(), "encoding": "base64"},
            "tool": {"content": "#!/bin/sh\necho from tool\n", "mode": "0755"},
        },
        entrypoint="./tool && cp data.bin out.bin",
        extract=["out.bin"],
    )
    assert state["logs"] == ["from tool"]
    assert server.artifact(state["id"], "out.bin").content == content


def test_setup_is_run_by_another_name(server: Server) -> None:
    state = server.run(setup=["echo made > /made-by-setup"], entrypoint="cat /made-by-setup")
    assert state["logs"] == ["made"]


def test_a_request_is_refused_before_anything_happens(server: Server) -> None:
    before = [run["id"] for run in server.get("/runs?limit=1").json()]
    assert server.post_run(timeout=0).status_code == 400
    assert [run["id"] for run in server.get("/runs?limit=1").json()] == before


def test_the_helper_makes_a_valid_request(server: Server) -> None:
    response = server.request("POST", "/run", json=run_request())
    assert response.status_code == 200


def test_the_largest_environment(server: Server) -> None:
    # As much as a request may have: twelve variables of the longest kind are 1.5 MiB less what each counts more.
    env = {f"A{number:02}": "x" * (131_071 - 4) for number in range(11)}
    left = 3 * 512 * 1024 - 11 * (131_071 + 9) - len("B=") - 9
    command = "env | wc -c; echo ${#A00} ${#B}"
    env["B"] = "y" * (left - len(command))
    for _ in range(3):
        # Cold at first, parked in the end.
        state = server.run(entrypoint=command, env=env)
        assert state["status"] == "succeeded", state
        assert state["logs"][1] == f"{131_071 - 4} {left - len(command)}"
    refused = server.post_run(entrypoint=command + " ", env=env)
    assert refused.status_code == 400
    assert [(each["path"], each["code"]) for each in refused.json()["details"]] == [(["env"], "too_long")]

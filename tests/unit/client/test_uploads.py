"""What is sent: files of a mapping, of pairs, of a folder, and the tar they become."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from light_run.api import Policy
from light_run.api.requests import schema
from light_run.client.requests import Options, request, text
from light_run.client.uploads import Content, MultipartMessage, Upload, uploads
from light_run.errors import InvalidSpec


def sent(message: MultipartMessage) -> bytes:
    """All of a message."""
    return b"".join(message.sent(lambda _: None))


def members(message: MultipartMessage) -> dict[str, tuple[bytes | str, int]]:
    """The content and mode of each file and empty folder in the archive of a message."""
    archive = sent(message).split(b'filename="files.tar"\r\n\r\n', 1)[1].rsplit(b"\r\n--", 1)[0]
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {
            each.name: ("folder" if each.isdir() else tar.extractfile(each).read(), each.mode)  # type: ignore[union-attr]
            for each in tar
        }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a little of everything that may be sent."""
    root = tmp_path / "folder"
    (root / "a" / ".hidden").mkdir(parents=True)
    (root / "a" / ".hidden" / "file").write_bytes(b"\0\xff")
    (root / "tool").write_text("#!/bin/sh\n")
    (root / "tool").chmod(0o755)
    (root / "link").symlink_to("a/.hidden/file")
    (root / "empty").mkdir()
    return root


def test_a_folder_a_mapping_and_pairs(folder: Path) -> None:
    assert list(uploads(folder)) == ["link", "tool", "a/.hidden/file", "empty"]
    assert uploads(folder / "empty") == {}
    pairs: list[tuple[str, Content]] = [
        ("", folder),
        ("b", folder),
        ("t", "ü"),
        ("x/y", b"\xff"),
        ("f", folder / "tool"),
        ("e", folder / "empty"),
    ]
    found = uploads(pairs)
    assert sorted(found) == sorted(
        [*uploads(folder), *(f"b/{each}" for each in uploads(folder)), "t", "x/y", "f", "e"]
    )
    assert (found["t"], found["x/y"]) == (Upload("ü".encode()), Upload(b"\xff"))
    assert found["f"] == Upload(folder / "tool", executable=True)
    assert uploads(None) == uploads({}) == {}


@pytest.mark.parametrize("target", ["/a", "../a", "a/../b", "a/", "", ".", ".."])
def test_paths_that_lead_elsewhere(target: str) -> None:
    with pytest.raises(InvalidSpec, match="file"):
        uploads({target: "x"})


def test_two_files_in_one_place() -> None:
    with pytest.raises(InvalidSpec, match="given twice"):
        uploads([("a", "1"), ("a", "2")])


def test_what_of_a_folder_is_not_sent(folder: Path) -> None:
    (folder / "out").symlink_to("/etc/passwd")
    with pytest.raises(InvalidSpec, match="leads out"):
        uploads(folder)
    (folder / "out").unlink()
    (folder / "out").symlink_to("a")
    with pytest.raises(InvalidSpec, match="link to a folder"):
        uploads(folder)
    (folder / "out").unlink()
    os.mkfifo(folder / "out")
    with pytest.raises(InvalidSpec, match="not a regular file"):
        uploads(folder)
    with pytest.raises(FileNotFoundError):
        uploads({"a": folder / "gone"})
    with pytest.raises(InvalidSpec, match="'a' is int: give str, bytes or a Path"):
        uploads({"a": 5})  # type: ignore[dict-item]


def test_the_archive_has_it_all(folder: Path) -> None:
    found = members(MultipartMessage({"image": "a"}, uploads({"d": folder, "long" * 60: "x" * 1_000_000})))
    assert found == {
        "d/link": (b"\0\xff", 0o644),
        "d/tool": (b"#!/bin/sh\n", 0o755),
        "d/a/.hidden/file": (b"\0\xff", 0o644),
        "d/empty": ("folder", 0o755),
        "long" * 60: (b"x" * 1_000_000, 0o644),
    }


def test_the_same_is_sent_each_time(folder: Path) -> None:
    message = MultipartMessage({"image": "a"}, uploads(folder))
    first = sent(message)
    os.utime(folder / "tool", (1, 1))
    assert sent(message) == first
    assert message.content_type.partition("boundary=")[2].encode() in first


def test_a_file_that_changes_while_it_is_sent_is_no_broken_connection(folder: Path) -> None:
    message = MultipartMessage({}, uploads(folder))
    (folder / "tool").unlink()
    with pytest.raises(InvalidSpec, match=r"tool.*No such file"):
        sent(message)

    def shrink(count: int) -> None:
        # Once the first piece of it goes.
        if count == 1 << 16:
            os.truncate(folder / "big", 10)

    (folder / "big").write_bytes(bytes(1_000_000))
    with pytest.raises(InvalidSpec, match="shorter"):
        list(MultipartMessage({}, uploads({"big": folder / "big"})).sent(shrink))


def test_text_is_text_where_it_is() -> None:
    assert text(b"a\n") == "a\n"
    assert text(b"\0") == {"content": "AA==", "encoding": "base64"}
    assert text(b"\xff") == {"content": "/w==", "encoding": "base64"}


@pytest.mark.parametrize(("seconds", "asked"), [(0.0001, 1), (1.1, 1100), (0, 0), (-1, -1000)])
def test_a_timeout_is_what_was_given(seconds: float, asked: int) -> None:
    assert request("a", None, {"timeout": seconds})["timeout"] == asked


@pytest.mark.parametrize("seconds", [float("inf"), float("nan")])
def test_a_timeout_that_is_no_number(seconds: float) -> None:
    with pytest.raises(InvalidSpec, match="timeout is"):
        request("a", None, {"timeout": seconds})


def test_every_option_has_its_field() -> None:
    options: Options = {
        "stdin": "s",
        "env": {"A": "b"},
        "extract": ("o",),
        "steps": ("one",),
        "timeout": 0.0001,
        "step_timeout": 2.5,
        "network": "none",
        "workdir": "/w",
        "limits": {"pids": 5},
        "runtime": "runc",
        "pull": "never",
        "labels": {"team": "search"},
        "user": "1000",
        "registry_auth": {"token": "t"},
        "output": "split",
        "interactive": True,
        "platform": "linux/amd64",
        "callback_url": "http://x/",
        "callback_secret": "x" * 16,
    }
    asked = request("a", ["sh", "-c", "it's"], options)
    loaded = schema.load(schema.run_schema(Policy()), json.dumps({**asked, "files": {"a": ""}}).encode())
    # Those that have no field of their own, or that of another option.
    assert options.keys() | {"input", "files", "progress", "networks"} == Options.__annotations__.keys()
    fields = {
        "steps": "run",
        "step_timeout": "stepTimeout",
        "registry_auth": "registryAuth",
        "callback_url": "callbackUrl",
        "callback_secret": "callbackSecret",
    }
    assert loaded.keys() == {fields.get(name, name) for name in options} | {
        "image",
        "entrypoint",
        "detached",
        "files",
    }
    assert asked["stepTimeout"] == 2500
    assert request("a", None, {"networks": ("x", "y")})["networks"] == ["x", "y"]
    assert (asked["timeout"], asked["run"], asked["entrypoint"]) == (1, ["one"], """sh -c 'it'"'"'s'""")
    assert request("a", "x | y", {"input": None, "env": None}) == {
        "image": "a",
        "entrypoint": "x | y",
        "detached": True,
        "input": None,
    }


def test_an_option_that_there_is_not() -> None:
    with pytest.raises(TypeError, match="timeuot"):
        request("a", None, {"timeuot": 1})  # type: ignore[typeddict-unknown-key]

"""GET /runs/ID/artifacts and everything below it."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from urllib.parse import quote

import pytest

from tests.support.raw import raw_request
from tests.support.server import RunState, Server

CANARY = "outside-canary-77d1"

MAKE = r"""
mkdir -p out/deep/er out/empty
printf hello > out/a.txt
printf '{"a":1}' > out/page.html
printf deep > out/deep/er/f
printf blank > 'out/with blank & "quote".txt'
printf uml > 'out/übung-中.txt'
printf pct > 'out/100%25.txt'
printf semi > 'out/a;b,c.txt'
: > out/nothing
"""


@pytest.fixture(scope="module")
def made(server: Server) -> RunState:
    """A run that left files of every kind of name, with a canary beside its artifact folder."""
    (server.artifacts_dir / "canary.txt").write_text(CANARY)
    state = server.run(entrypoint=MAKE, extract=["out"])
    assert state["status"] == "succeeded", state
    return state


def test_the_list(server: Server, made: RunState) -> None:
    response = server.get(f"/runs/{made['id']}/artifacts")
    assert response.status_code == 200
    entries = {entry["path"]: entry for entry in response.json()}
    assert entries["a.txt"] == {"path": "a.txt", "bytes": 5, "type": "file"}
    assert entries["nothing"] == {"path": "nothing", "bytes": 0, "type": "file"}
    assert entries["deep/er/f"] == {"path": "deep/er/f", "bytes": 4, "type": "file"}
    assert entries["deep"]["type"] == entries["deep/er"]["type"] == entries["empty"]["type"] == "directory"
    assert "übung-中.txt" in entries
    assert response.json() == made["artifacts"]


def test_the_list_of_a_run_without_any(server: Server) -> None:
    run_id = server.run()["id"]
    response = server.get(f"/runs/{run_id}/artifacts")
    assert (response.status_code, response.json()) == (200, [])


def test_a_file(server: Server, made: RunState) -> None:
    response = server.artifact(made["id"], "a.txt")
    assert response.status_code == 200
    assert response.content == b"hello"
    assert response.headers["Content-Type"] == "application/octet-stream"
    assert response.headers["Content-Disposition"] == 'attachment; filename="a.txt"'
    assert response.headers["Content-Length"] == "5"
    assert response.headers["ETag"]
    assert response.headers["Accept-Ranges"] == "bytes"


def test_an_empty_file(server: Server, made: RunState) -> None:
    response = server.artifact(made["id"], "nothing")
    assert (response.status_code, response.content, response.headers["Content-Length"]) == (200, b"", "0")


def test_a_page_is_a_download_too(server: Server, made: RunState) -> None:
    response = server.artifact(made["id"], "page.html")
    assert response.headers["Content-Type"] == "application/octet-stream"
    assert response.headers["Content-Disposition"].startswith("attachment")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ('with blank & "quote".txt', b"blank"),
        ("übung-中.txt", b"uml"),
        ("100%25.txt", b"pct"),
        ("a;b,c.txt", b"semi"),
    ],
)
def test_a_file_of_any_name(server: Server, made: RunState, name: str, content: bytes) -> None:
    response = server.artifact(made["id"], quote(name))
    assert response.status_code == 200
    assert response.content == content
    disposition = response.headers["Content-Disposition"]
    assert disposition.startswith("attachment")
    assert "\r" not in disposition
    assert "\n" not in disposition


def test_a_name_that_is_not_ascii_is_given_in_both_forms(server: Server, made: RunState) -> None:
    disposition = server.artifact(made["id"], quote("übung-中.txt")).headers["Content-Disposition"]
    assert "filename*=UTF-8''" + quote("übung-中.txt") in disposition
    assert 'filename="' in disposition


def test_a_quote_in_a_name_does_not_end_it(server: Server, made: RunState) -> None:
    disposition = server.artifact(made["id"], quote('with blank & "quote".txt')).headers[
        "Content-Disposition"
    ]
    # Escaped, or replaced beside the exact name.
    assert r'filename="with blank & \"quote\".txt"' in disposition or (
        disposition.count('"') == 2 and "filename*=UTF-8''with%20blank%20%26%20%22quote%22.txt" in disposition
    )


def test_a_folder_is_listed(server: Server, made: RunState) -> None:
    response = server.artifact(made["id"], "deep")
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("application/json")
    assert response.json() == [{"path": "er", "type": "directory"}]
    assert server.artifact(made["id"], "deep/er").json() == [{"path": "f", "type": "file"}]
    assert server.artifact(made["id"], "deep/").json() == [{"path": "er", "type": "directory"}]
    assert server.artifact(made["id"], "empty").json() == []


def test_a_file_in_folders(server: Server, made: RunState) -> None:
    assert server.artifact(made["id"], "deep/er/f").content == b"deep"


@pytest.mark.parametrize(
    "path", ["missing", "deep/missing", "a.txt/x", "a.txt/", "deep/er/f/g", "n" * 300, "A.TXT"]
)
def test_a_file_that_is_not_there(server: Server, made: RunState, path: str) -> None:
    response = server.artifact(made["id"], path)
    assert (response.status_code, response.json()["error"]) == (404, "artifact_not_found")


def test_head(server: Server, made: RunState) -> None:
    path = f"/runs/{made['id']}/artifacts/a.txt"
    head, get = server.request("HEAD", path), server.get(path)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("Content-Length", "Content-Type", "Content-Disposition", "ETag", "Accept-Ranges"):
        assert head.headers[name] == get.headers[name]


@pytest.mark.parametrize(
    ("asked", "content", "content_range"),
    [
        ("bytes=0-1", b"he", "bytes 0-1/5"),
        ("bytes=1-", b"ello", "bytes 1-4/5"),
        ("bytes=-2", b"lo", "bytes 3-4/5"),
        ("bytes=2-99", b"llo", "bytes 2-4/5"),
        ("bytes=4-4", b"o", "bytes 4-4/5"),
    ],
)
def test_a_range(server: Server, made: RunState, asked: str, content: bytes, content_range: str) -> None:
    response = server.artifact(made["id"], "a.txt", headers={"Range": asked})
    assert (response.status_code, response.content) == (206, content)
    assert response.headers["Content-Range"] == content_range
    assert response.headers["Content-Length"] == str(len(content))


@pytest.mark.parametrize("asked", ["bytes=0-", "bytes=0-4", "bytes=0-99", "bytes=-5", "bytes=-99"])
def test_a_range_that_is_all_of_it(server: Server, made: RunState, asked: str) -> None:
    response = server.artifact(made["id"], "a.txt", headers={"Range": asked})
    assert response.status_code in (200, 206)
    assert response.content == b"hello"


@pytest.mark.parametrize("asked", ["bytes=5-", "bytes=99-100"])
def test_a_range_that_is_not_there(server: Server, made: RunState, asked: str) -> None:
    response = server.artifact(made["id"], "a.txt", headers={"Range": asked})
    assert response.status_code == 416
    assert response.headers["Content-Range"] == "bytes */5"
    assert "error" in response.json()


@pytest.mark.parametrize("asked", ["bytes", "bytes=", "bytes=b-a", "lines=0-1", "bytes=3-1", "bytes=--1"])
def test_a_range_that_is_none(server: Server, made: RunState, asked: str) -> None:
    # RFC 9110: an invalid or unknown one may be ignored.
    response = server.artifact(made["id"], "a.txt", headers={"Range": asked})
    assert response.status_code in (200, 416)
    if response.status_code == 200:
        assert response.content == b"hello"


def test_several_ranges_are_no_server_error(server: Server, made: RunState) -> None:
    response = server.artifact(made["id"], "a.txt", headers={"Range": "bytes=0-0,2-2"})
    assert response.status_code in (200, 206, 416)


def test_an_etag_that_is_known(server: Server, made: RunState) -> None:
    etag = server.artifact(made["id"], "a.txt").headers["ETag"]
    known = server.artifact(made["id"], "a.txt", headers={"If-None-Match": etag})
    assert (known.status_code, known.content) == (304, b"")
    other = server.artifact(made["id"], "a.txt", headers={"If-None-Match": '"other"'})
    assert other.status_code == 200


def test_a_range_of_another_version_is_the_whole_file(server: Server, made: RunState) -> None:
    headers = {"Range": "bytes=0-1", "If-Range": '"other"'}
    response = server.artifact(made["id"], "a.txt", headers=headers)
    assert (response.status_code, response.content) == (200, b"hello")


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_everything_in_one_download(server: Server, made: RunState, kind: str) -> None:
    response = server.get(f"/runs/{made['id']}/artifacts?archive={kind}")
    assert response.status_code == 200
    assert response.headers["Content-Disposition"].startswith("attachment")
    content = {}
    if kind == "zip":
        with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
            assert archive.testzip() is None
            content = {name.rstrip("/"): archive.read(name) for name in archive.namelist()}
    else:
        with tarfile.open(fileobj=io.BytesIO(response.content), mode="r:gz") as archive:
            for member in archive:
                file = archive.extractfile(member)
                content[member.name.removeprefix("./")] = file.read() if file else b""
    assert content["a.txt"] == b"hello"
    assert content["deep/er/f"] == b"deep"
    assert content["übung-中.txt"] == b"uml"
    assert {entry["path"] for entry in made["artifacts"]} == set(content) - {""}


def test_an_archive_of_nothing(server: Server) -> None:
    run_id = server.run()["id"]
    for kind in ("tar.gz", "zip"):
        assert server.get(f"/runs/{run_id}/artifacts?archive={kind}").status_code == 200


def test_an_archive_of_an_unknown_kind(server: Server, made: RunState) -> None:
    response = server.get(f"/runs/{made['id']}/artifacts?archive=rar")
    assert (response.status_code, response.json()["error"]) == (400, "bad_request")


def test_a_large_binary_file_arrives_bit_by_bit(server: Server) -> None:
    state = server.run(
        entrypoint="head -c 3145728 /dev/urandom > out.bin; sha256sum out.bin | cut -d' ' -f1",
        extract=["out.bin"],
    )
    response = server.artifact(state["id"], "out.bin")
    assert len(response.content) == 3_145_728
    assert hashlib.sha256(response.content).hexdigest() == state["logs"][0]


# --- paths that leave the folder ------------------------------------------------------------------------

LEAVING = [
    b"..",
    b"../",
    b"../canary.txt",
    b"../../state/server-id",
    b"deep/../../canary.txt",
    b"deep/..",
    b"deep/../a.txt",
    b"%2e%2e",
    b"%2e%2e/canary.txt",
    b"%2E%2E/canary.txt",
    b".%2e/canary.txt",
    b"%2e./canary.txt",
    b"..%2fcanary.txt",
    b"..%2Fcanary.txt",
    b"%2e%2e%2fcanary.txt",
    b"deep%2f..%2f..%2fcanary.txt",
    b"..%5ccanary.txt",
    b"..\\canary.txt",
    b"%2e%2e%5ccanary.txt",
    b"deep\\..\\..\\canary.txt",
    b"deep/..\\..\\canary.txt",
    b"a.txt%00",
    b"a.txt%00.png",
    b"%00",
    b"..%00/canary.txt",
]

ELSEWHERE = [
    b"%252e%252e/canary.txt",
    b"%252e%252e%252fcanary.txt",
    b"..%c0%afcanary.txt",
    b"%c0%ae%c0%ae/canary.txt",
    b"%uff0e%uff0e/canary.txt",
    b"\xef\xbc\x8e\xef\xbc\x8e/canary.txt",
    b"...",
    b".../canary.txt",
    b"....//canary.txt",
    b"/etc/passwd",
    b"//etc/passwd",
    b"%2fetc%2fpasswd",
    b"%2f%2fetc/passwd",
    b"/../canary.txt",
    b"file:///etc/passwd",
    b"~/canary.txt",
    b"./../canary.txt",
    b"C:\\windows",
    b"%ff%fe",
    b"..;/canary.txt",
    b".. /canary.txt",
]


@pytest.mark.parametrize("path", LEAVING)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_path_that_leaves_is_refused(server: Server, made: RunState, method: str, path: bytes) -> None:
    answer = raw_request(server, method, f"/runs/{made['id']}/artifacts/".encode() + path)
    assert answer.status == 400, answer
    assert answer.headers["content-type"].startswith("application/json")
    if method == "GET":
        assert json.loads(answer.body)["error"] == "invalid_path"


@pytest.mark.parametrize("path", ELSEWHERE)
def test_nothing_outside_the_folder_is_ever_given(server: Server, made: RunState, path: bytes) -> None:
    answer = raw_request(server, "GET", f"/runs/{made['id']}/artifacts/".encode() + path)
    assert answer.status in (308, 400, 404), answer
    assert CANARY.encode() not in answer.body
    assert b"root:" not in answer.body


@pytest.mark.parametrize("run_id", [b"..", b"%2e%2e", b".", b"..%2f..", b"", b"canary.txt", b"*"])
def test_no_folder_but_a_run_s_is_opened(server: Server, made: RunState, run_id: bytes) -> None:
    for tail in (b"", b"/canary.txt", b"/" + made["id"].encode() + b"/a.txt"):
        answer = raw_request(server, "GET", b"/runs/" + run_id + b"/artifacts" + tail)
        assert answer.status in (308, 400, 404), answer
        assert CANARY.encode() not in answer.body
        assert answer.body != b"hello"


def test_a_folder_that_no_run_owns_is_not_served(server: Server, made: RunState) -> None:
    folder = server.artifacts_dir / "00000000-0000-4000-8000-0000000000ff"
    folder.mkdir()
    try:
        (folder / "x").write_text("x")
        assert server.artifact(folder.name, "x").status_code == 404
    finally:
        (folder / "x").unlink()
        folder.rmdir()


def test_a_link_that_turns_up_in_the_folder_is_not_followed(server: Server) -> None:
    run_id = server.run(entrypoint="mkdir d; echo x > d/f", extract=["d"])["id"]
    folder = server.artifacts_dir / run_id
    (folder / "link").symlink_to("/etc/passwd")
    (folder / "up").symlink_to("..")
    assert server.artifact(run_id, "link").status_code == 404
    assert server.artifact(run_id, "up/canary.txt").status_code == 404
    assert server.artifact(run_id, "up").status_code == 404
    assert b"root:" not in server.get(f"/runs/{run_id}/artifacts?archive=tar.gz").content

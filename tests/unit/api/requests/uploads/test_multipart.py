"""``POST /run`` as multipart/form-data: what lands in the workspace, and what is refused and leaves nothing."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import stat
import tarfile
import tempfile
import threading
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.exceptions import HTTPException
from werkzeug.test import TestResponse

from light_run.api.requests.uploads import archive_source
from light_run.api.requests.uploads.multipart import receive
from light_run.engine.files.intake import Intake
from light_run.engine.files.workspace import Workspace
from light_run.errors import InvalidSpec, PayloadTooLarge
from light_run.runs.service import RunService
from tests.support.multipart import BOUNDARY, TYPE, body, part, request_part, tar, zipped
from tests.unit.conftest import MakeClient
from tests.unit.fake_runner import FakeRunner

RUN = request_part(image="alpine", detached=True)
KIB = 1024


@pytest.fixture
def runner(runner: FakeRunner) -> Iterator[FakeRunner]:
    """Runs wait, so that their files can be looked at; in the end nobody's are left."""
    runner.hold()
    yield runner
    for run_id in list(runner.engine.staged):
        runner.end(run_id)


def post(client: FlaskClient, *parts: bytes, **arguments: Any) -> TestResponse:
    """Send a body of `parts`."""
    return client.post("/run", data=body(*parts), content_type=TYPE, **arguments)


def tree(runner: FakeRunner) -> dict[str, bytes]:
    """The files of the one run that there is."""
    (workspace,) = runner.engine.uploads.iterdir()
    root = workspace / "files"
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def assert_refused(runner: FakeRunner, response: TestResponse, status: int = 400) -> dict[str, Any]:
    """`response` is an error of `status`, and nothing is left of what came; the answer."""
    assert response.status_code == status, response.text
    assert list(runner.engine.uploads.iterdir()) == []
    answer: dict[str, Any] = json.loads(response.data)
    return answer


def details(runner: FakeRunner, response: TestResponse) -> list[tuple[list[str], str]]:
    """Paths and codes of the faults that were found."""
    return [(each["path"], each["code"]) for each in assert_refused(runner, response)["details"]]


def test_files_from_everywhere(client: FlaskClient, runner: FakeRunner) -> None:
    request = request_part(image="alpine", detached=True, files={"posted": "p"})
    archive = tar(("./unpacked/deep", b"u"), mode="w:gz")
    files = (part("files", "1", "main.py"), part("any", b"\0\r\n--" * 5, "sub/./übung b.bin"))
    response = post(client, files[0], request, part("archive", archive), files[1])
    assert response.status_code == 202
    assert tree(runner) == {
        "posted": b"p",
        "unpacked/deep": b"u",
        "main.py": b"1",
        "sub/übung b.bin": b"\0\r\n--" * 5,
    }


@pytest.mark.parametrize(
    "archive",
    [
        tar(("a", b"1"), ("d/b", b"2" * 70000)),
        tar(("a", b"1"), ("d/b", b"2" * 70000), mode="w:gz"),
        zipped({"d/": b"", "a": b"1", "d/b": b"2" * 70000}, attributes=0o755),
        zipped({"a": b"1", "d/b": b"2" * 70000}, zipfile.ZIP_STORED, stat.S_IFREG | 0o755),
    ],
    ids=["tar", "tar.gz", "zip", "stored zip"],
)
def test_an_archive(client: FlaskClient, runner: FakeRunner, archive: bytes) -> None:
    assert post(client, RUN, part("archive", archive, "whatever.bin")).status_code == 202
    assert tree(runner) == {"a": b"1", "d/b": b"2" * 70000}
    (workspace,) = runner.engine.uploads.iterdir()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (workspace / "files").rglob("*")}
    assert modes == {"a": 0o777, "d": 0o777, "b": 0o777}
    assert sorted(entry.name for entry in workspace.iterdir()) == ["files", "hosts"]


def test_an_archive_may_be_empty(client: FlaskClient, runner: FakeRunner) -> None:
    assert post(client, RUN, part("archive", tar())).status_code == 202
    assert tree(runner) == {}


def test_a_second_name_in_a_tar_is_a_copy(client: FlaskClient, runner: FakeRunner) -> None:
    archive = tar(("a", b"1"), ("b", "a"), kind=tarfile.LNKTYPE)
    assert post(client, RUN, part("archive", archive)).status_code == 202
    assert tree(runner) == {"a": b"1", "b": b"1"}


@pytest.mark.parametrize(
    ("filename", "says"),
    [
        ("../x", ".."),
        ("a/..", ".."),
        ("..%5cx/../y", ".."),
        ("a\\..\\x", ".."),
        ("/etc/passwd", "absolute"),
        ("C:\\x", "absolute"),
        ("\\\\server\\share", "absolute"),
        ("a/", "folder"),
        (".", "folder"),
        ("", "empty"),
        ("n\0ul", "NUL"),
        ("n" * 256, "255"),
        ("d/" * 600 + "f", "1024"),
    ],
)
def test_names_of_files(client: FlaskClient, runner: FakeRunner, filename: str, says: str) -> None:
    answer = assert_refused(runner, post(client, RUN, part("files", "x", filename)))
    (fault,) = answer["details"]
    assert (fault["path"][0], fault["code"]) == ("files", "invalid_path")
    assert says in fault["message"]


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", "C:\\x", "\\x", "n" * 256, "a\\..\\b"])
@pytest.mark.parametrize(
    "pack", [lambda name: tar((name, b"")), lambda name: zipped({name: b""})], ids=["tar", "zip"]
)
def test_names_in_archives(client: FlaskClient, runner: FakeRunner, name: str, pack: Any) -> None:
    response = post(client, RUN, part("archive", pack(name)))
    assert details(runner, response) == [(["archive", name], "invalid_path")]


@pytest.mark.parametrize(
    "parts",
    [
        (part("f", "1", "a"), part("f", "2", "./a")),
        (part("f", "1", "a"), part("f", "2", "a/b")),
        (part("f", "1", "a/b"), part("f", "2", "a")),
        (part("f", "1", "a"), part("archive", tar(("a", b"2")))),
        (part("f", "1", "a"), part("archive", zipped({"a/": b""}))),
        (part("archive", tar(("a", b"1"), ("a", b"2"))),),
        (part("archive", tar(("a/b", b"1"))), part("f", "2", "a/b")),
        (part("f", "1", "posted"),),
        (part("f", "1", "posted/below"),),
    ],
)
def test_a_path_that_is_taken(client: FlaskClient, runner: FakeRunner, parts: tuple[bytes, ...]) -> None:
    request = request_part(image="alpine", files={"posted": "x"})
    ((_, code),) = details(runner, post(client, request, *parts))
    assert code == "invalid_path"


@pytest.mark.parametrize(
    "archive",
    [
        *(
            tar(("a", "/etc/passwd"), kind=kind)
            for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE)
        ),
        tar(("a", ""), kind=tarfile.CHRTYPE),
        tar(("a", "a"), kind=tarfile.LNKTYPE),
        zipped({"a": b"/etc/passwd"}, attributes=stat.S_IFLNK | 0o777),
        zipped({"a": b""}, attributes=stat.S_IFIFO),
        zipped({"a": b"1"}, zipfile.ZIP_LZMA),
        tar(("a", b"1"), mode="w:xz"),
        tar(("a", b"1"), mode="w:bz2"),
        b"\x28\xb5\x2f\xfd" + b"\0" * 100,
        tar(("a", b"1" * 2000))[:1500],
        tar(("a", b"1" * 2000))[:512],
        tar(("a", b"1" * 512))[:1024],
        tar(("a", os.urandom(3000)), mode="w:gz")[:2000],
        tar(("a", b"1"), mode="w:gz")[:8],
        gzip.compress(b"no tar"),
        zipped({"a": b"1" * 2000})[:-30],
        zipped({"a": os.urandom(2000)}).replace(b"PK\x01\x02", b"PK\x01\x03"),
        b"PK\x03\x04" + os.urandom(2000),
        b"\x1f\x8b" + os.urandom(2000),
        b"text, and no archive",
        b"",
        os.urandom(5000),
    ],
    # A time is in the bytes of some.
    ids=lambda _: "archive",
)
def test_archives_that_are_not_taken(client: FlaskClient, runner: FakeRunner, archive: bytes) -> None:
    answer = assert_refused(runner, post(client, RUN, part("files", "1", "before"), part("archive", archive)))
    assert {each["code"] for each in answer["details"]} <= {"invalid_archive", "invalid_path"}


def test_an_encrypted_zip(client: FlaskClient, runner: FakeRunner) -> None:
    archive = bytearray(zipped({"a": b"secret"}))
    for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        archive[archive.index(magic) + at] |= 1
    (fault,) = assert_refused(runner, post(client, RUN, part("archive", bytes(archive))))["details"]
    assert "encrypted" in fault["message"]


def test_a_corrupt_member_of_a_zip(client: FlaskClient, runner: FakeRunner) -> None:
    archive = bytearray(zipped({"a": b"x" * 100}, zipfile.ZIP_STORED))
    archive[archive.index(b"xxx")] = 0
    assert details(runner, post(client, RUN, part("archive", bytes(archive)))) == [
        (["archive"], "invalid_archive")
    ]


def test_what_unpacks_to_more_than_it_is(client: FlaskClient, runner: FakeRunner) -> None:
    runner.most_bytes = 100 * KIB
    bomb = b"\0" * (10 * 1024 * KIB)
    for archive in (tar(("a", bomb), mode="w:gz"), zipped({"a": bomb})):
        assert len(archive) < 50 * KIB
        answer = assert_refused(runner, post(client, RUN, part("archive", archive)), 413)
        assert (answer["error"], "102400" in answer["message"]) == ("payload_too_large", True)


def test_more_files_than_there_may_be(client: FlaskClient, runner: FakeRunner) -> None:
    runner.most_entries = 50
    names = [f"d{index}/f" for index in range(26)]
    parts = [part("f", "", name) for name in names]
    for sent in (parts, [part("archive", tar(*((name, b"") for name in names)))]):
        assert_refused(runner, post(client, RUN, *sent), 413)


def test_headers_in_a_tar_that_would_fill_the_memory(client: FlaskClient, runner: FakeRunner) -> None:
    long = io.BytesIO()
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 200 * KIB
    long.write(info.tobuf(tarfile.GNU_FORMAT) + b"n" * info.size)
    many = b""
    for index in range(40):
        many += tarfile.TarInfo.create_pax_global_header({f"k{index}": "v"})
        many += tarfile.TarInfo(f"f{index}").tobuf()
    for archive in (long.getvalue(), many + bytes(1024)):
        assert details(runner, post(client, RUN, part("archive", archive))) == [
            (["archive"], "invalid_archive")
        ]


def sparse_map() -> bytes:
    """The begin of a tar whose one file has a map of holes of many megabytes, in the form of GNU's tar 1.0."""
    info = tarfile.TarInfo("x")
    info.size = 400 * KIB * KIB
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "x"}
    return info.tobuf(tarfile.PAX_FORMAT) + b"9999999\n" + b"1\n" * (2 * KIB * KIB)


def old_sparse_map() -> bytes:
    """The same in the older form: a chain of blocks, each of which says that there is another."""
    head = bytearray(tarfile.TarInfo("x").tobuf())
    head[156:157] = tarfile.GNUTYPE_SPARSE
    head[482], head[483:495] = 1, b"00000000001\0"
    head[148:156] = b"%06o\0 " % (sum(head[:148]) + sum(head[156:]) + 8 * ord(" "))
    return bytes(head) + (b"00000000001\0" * 42 + b"\1" + bytes(7)) * 8 * KIB


def many_headers() -> bytes:
    """A tar whose one file has many megabytes of headers before it, none of them long."""
    one = tarfile.TarInfo.create_pax_global_header({f"k{index}": "v" for index in range(4 * KIB)})
    return one * 100 + tarfile.TarInfo("x").tobuf() + bytes(KIB)


@pytest.mark.parametrize("make", [sparse_map, old_sparse_map, many_headers])
def test_a_small_tar_gz_with_headers_that_would_fill_the_memory(
    client: FlaskClient, runner: FakeRunner, make: Callable[[], bytes]
) -> None:
    archive = gzip.compress(make(), compresslevel=1)
    tracemalloc.start()
    try:
        response = post(client, RUN, part("archive", archive))
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "too many headers" in assert_refused(runner, response)["details"][0]["message"]
    assert most < len(archive) * 2 + 8 * KIB * KIB


def test_names_of_faults_are_cut(client: FlaskClient, runner: FakeRunner) -> None:
    archive = tar(*(("../" + str(index) + "\1" * 50_000, b"") for index in range(20)), mode="w:gz")
    response = post(client, RUN, part("archive", archive))
    assert {len(name) for _, name in [path for path, _ in details(runner, response)]} == {2049}


def test_what_is_passed_over_has_an_end(client: FlaskClient, runner: FakeRunner, monkeypatch: Any) -> None:
    monkeypatch.setattr(archive_source, "MOST_PASSED", 64 * KIB)
    archive = tar(("../a", bytes(40 * KIB)), ("../b", bytes(40 * KIB)), ("../c", b""), mode="w:gz")
    found = details(runner, post(client, RUN, part("archive", archive)))
    assert [path for path, _ in found] == [["archive", "../a"], ["archive", "../b"], ["archive"]]


@pytest.mark.parametrize(("cap", "most"), [("MOST_ZIP_TABLE", 100 * KIB), ("MOST_ZIP_ENTRIES", 1999)])
def test_a_zip_with_more_entries_than_memory_for_them(
    client: FlaskClient, runner: FakeRunner, monkeypatch: Any, cap: str, most: int
) -> None:
    archive = zipped({f"folder/file{index}": b"" for index in range(2000)})
    monkeypatch.setattr(archive_source, cap, most)
    answer = assert_refused(runner, post(client, RUN, part("archive", archive)))
    assert "send a tar instead" in answer["details"][0]["message"]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\r\n", 400),
        (b"{}", 400),
        (body(RUN, part("f", "1", "a"))[:-8], 400),
        (RUN + part("f", "1", "a"), 400),
        (body(RUN, part("f", "1", "a")).replace(BOUNDARY.encode(), b"another"), 400),
        (body(RUN).replace(b"\r\n", b"\n"), 400),
        (body(RUN, part("f", "1", b"not-utf8-\xff")), 400),
        (body(RUN, b"--" + BOUNDARY.encode() + b"\r\nNo-Disposition: x\r\n\r\n\r\n"), 400),
        (body(RUN, b"--" + BOUNDARY.encode() + b"\r\n" + b"X: y\r\n" * 1000 + b"\r\n\r\n"), 413),
        (body(RUN, b"--" + BOUNDARY.encode() + b"\r\nX: " + b"y" * 100_000), 413),
        (body(request_part(image="alpine", entrypoint="x" * 200_000), part("f", "1", "a")), 413),
        (body(part("request", "{"), part("f", "1", "a")), 400),
        (body(part("request", ""), part("f", "1", "a")), 400),
    ],
)
def test_bodies_that_are_none(client: FlaskClient, runner: FakeRunner, sent: bytes, status: int) -> None:
    answer = assert_refused(runner, client.post("/run", data=sent, content_type=TYPE), status)
    assert answer["error"] == {400: "bad_request", 413: "payload_too_large"}[status]
    assert answer["message"]


def test_all_faults_at_once(client: FlaskClient, runner: FakeRunner) -> None:
    request = request_part(imag="alpine")
    sent = (part("f", "1", "../a"), request, part("f", "2", "/b"), part("field", "x"), part("request", "{}"))
    assert sorted(details(runner, post(client, *sent))) == [
        (["field"], "invalid_part"),
        (["files", "../a"], "invalid_path"),
        (["files", "/b"], "invalid_path"),
        (["imag"], "unknown_field"),
        (["image"], "required"),
        (["request"], "duplicate_part"),
    ]


@pytest.mark.parametrize(
    ("parts", "fault"),
    [
        ((part("f", "1", "a"),), (["request"], "required")),
        ((RUN,), (["files"], "required")),
        (
            (RUN, part("archive", tar(("a", b""))), part("archive", tar(("b", b"")))),
            (["archive"], "duplicate_part"),
        ),
    ],
)
def test_what_is_missing_or_too_much(
    client: FlaskClient, runner: FakeRunner, parts: tuple[bytes, ...], fault: tuple[list[str], str]
) -> None:
    assert details(runner, post(client, *parts)) == [fault]


def test_without_a_boundary_it_is_json(client: FlaskClient, runner: FakeRunner) -> None:
    sent = b'{"image": "alpine", "files": {"a": "1"}, "detached": true}'
    assert client.post("/run", data=sent, content_type="multipart/form-data").status_code == 202
    assert runner.staged_files.popitem()[1] == {"a": "1"}


def test_a_body_over_the_limit(make_client: MakeClient, runner: FakeRunner) -> None:
    client = make_client(upload_limit=10_000)
    assert post(client, RUN, part("f", "x" * 5000, "a")).status_code == 202
    runner.discard(next(iter(runner.engine.staged)))
    assert_refused(runner, post(client, RUN, part("f", "x" * 10_000, "a")), 413)


def test_no_room_means_nothing_is_read(client: FlaskClient, runner: FakeRunner, service: RunService) -> None:
    for _ in range(4):
        assert post(client, RUN, part("f", "1", "a")).status_code == 202
    before = set(runner.engine.uploads.iterdir())
    response = post(client, b"no multipart body at all")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert set(runner.engine.uploads.iterdir()) == before


def test_a_place_is_free_again_after_a_fault(client: FlaskClient, runner: FakeRunner) -> None:
    for _ in range(10):
        assert_refused(runner, post(client, RUN, part("f", "1", "../a")))
    assert post(client, RUN, part("f", "1", "a")).status_code == 202


def test_a_full_disk(client: FlaskClient, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, mode: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fchmod", full)
    assert_refused(runner, post(client, RUN, part("f", "1", "a")), 507)


def test_a_stop_in_the_middle(client: FlaskClient, runner: FakeRunner, service: RunService) -> None:
    class Stopping(io.BytesIO):
        def readinto(self, into: Any) -> int:
            if self.tell():
                service.close(grace=0)
            return super().readinto(into)

    sent = body(RUN, part("f", "x" * 200_000, "a"))
    response = client.post("/run", input_stream=Stopping(sent), content_length=len(sent), content_type=TYPE)
    assert_refused(runner, response, 503)


def test_the_same_again_is_the_same_run(client: FlaskClient, runner: FakeRunner) -> None:
    def send(content: str, boundary: str = BOUNDARY) -> TestResponse:
        sent = body(RUN, part("f", content, "a")).replace(BOUNDARY.encode(), boundary.encode())
        kind = TYPE.replace(BOUNDARY, boundary)
        return client.post("/run", data=sent, content_type=kind, headers={"Idempotency-Key": "k"})

    first = json.loads(send("1").data)
    assert json.loads(send("1", "another").data)["id"] == first["id"]
    assert json.loads(send("2").data)["error"] == "idempotency_conflict"
    assert [entry.name for entry in runner.engine.uploads.iterdir()] == [first["id"]]
    # Nor does it need a place where there is none for another run.
    while post(client, RUN, part("f", "1", "a")).status_code != 503:
        pass
    assert json.loads(send("1").data)["id"] == first["id"]
    assert json.loads(send("2").data)["error"] == "idempotency_conflict"
    assert (
        client.post("/run", data=b"none", content_type=TYPE, headers={"Idempotency-Key": "k"}).status_code
        == 400
    )


def test_uploads_leave_threads_to_others(
    make_client: MakeClient, runner: FakeRunner, service: RunService
) -> None:
    client = make_client(threads=5)
    going, reading = threading.Event(), threading.Event()

    class Slow(io.BytesIO):
        def readinto(self, into: Any) -> int:
            reading.set()
            going.wait(30)
            return super().readinto(into)

    sent = body(RUN, part("f", "1", "a"))
    answers: list[int] = []

    def upload() -> None:
        response = client.application.test_client().post(
            "/run", input_stream=Slow(sent), content_length=len(sent), content_type=TYPE
        )
        answers.append(response.status_code)

    thread = threading.Thread(target=upload)
    thread.start()
    assert reading.wait(30)
    assert post(client, RUN, part("f", "1", "a")).status_code == 503
    assert client.get("/runs").status_code == 200
    going.set()
    thread.join()
    assert answers == [202]


def test_the_files_of_an_upload_are_those_of_any_user(
    client: FlaskClient, runner: FakeRunner, tmp_path: Path
) -> None:
    before = os.umask(0o077)
    try:
        assert post(client, RUN, part("f", "1", "d/a")).status_code == 202
    finally:
        os.umask(before)
    (workspace,) = runner.engine.uploads.iterdir()
    assert stat.S_IMODE(workspace.stat().st_mode) == 0o700
    modes = [stat.S_IMODE((workspace / "files" / path).stat().st_mode) for path in ("", "d", "d/a")]
    assert modes == [0o777, 0o777, 0o666]


@pytest.mark.parametrize(
    ("disposition", "path"),
    [
        (b'filename="a%22b%0A.txt"', 'a"b\n.txt'),
        (b'filename="quo\\"te"', 'quo"te'),
        (b'filename="back\\slash"', "back\\slash"),
        (b"filename=token.txt", "token.txt"),
        (b"filename*=utf-8''%c3%bcber.txt", "\u00fcber.txt"),
    ],
)
def test_ways_to_write_a_filename(
    client: FlaskClient, runner: FakeRunner, disposition: bytes, path: str
) -> None:
    sent = part("f", "x", "here").replace(b'filename="here"', disposition)
    assert post(client, RUN, sent).status_code == 202
    assert tree(runner) == {path: b"x"}


ARCHIVES = (
    tar(("a", b"1" * 700), ("d/b", b"2" * 1500), ("c", "a"), kind=tarfile.LNKTYPE),
    tar(("a", b"1" * 700), ("\u00fc" * 90, b"2"), mode="w:gz"),
    zipped({"d/": b"", "a": b"1" * 700, "d/b": bytes(range(256))}),
)
DAMAGE = st.lists(
    st.tuples(st.integers(0, 1 << 20), st.binary(min_size=1, max_size=12)), min_size=1, max_size=8
)


@settings(max_examples=150)
@given(archive=st.sampled_from(ARCHIVES), damage=DAMAGE, whole=st.booleans(), cut=st.integers(0, 4000))
def test_nothing_but_a_fault_comes_of_damage(
    archive: bytes, damage: list[tuple[int, bytes]], whole: bool, cut: int
) -> None:
    sent = (
        bytearray(body(RUN, part("archive", archive), part("f", "x", "q"))) if whole else bytearray(archive)
    )
    for offset, wrong in damage:
        at = offset % len(sent)
        sent[at : at + len(wrong)] = wrong
    data = bytes(sent[cut % len(sent) :]) if whole else body(RUN, part("archive", bytes(sent)))
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder, "run"))
        workspace.create()
        pieces = (data[at : at + 100] for at in range(0, len(data), 100))
        with contextlib.suppress(InvalidSpec, PayloadTooLarge, HTTPException):
            receive(pieces, BOUNDARY, Intake(workspace, 1 << 20, 100), lambda _: {}, 1 << 20)
        kinds = {stat.S_IFMT(path.lstat().st_mode) for path in Path(folder).rglob("*")}
        assert kinds <= {stat.S_IFREG, stat.S_IFDIR}
        assert {path.name for path in Path(folder).iterdir()} == {"run"}

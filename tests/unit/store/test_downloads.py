"""Stored artifacts as responses: a part of an object, which has no descriptor, is sent like a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask import Flask, Response

from light_run.api.responses import download
from light_run.artifacts.store import OpenFile
from light_run.store.store import Store


@pytest.mark.parametrize(
    ("wanted", "status", "content"),
    [
        (None, 200, b"0123456789"),
        ("bytes=2-4", 206, b"234"),
        ("bytes=-3", 206, b"789"),
        ("bytes=8-", 206, b"89"),
        ("bytes=0-99", 206, b"0123456789"),
    ],
)
def test_a_stored_artifact_is_sent_whole_or_in_part(
    store: Store, tmp_path: Path, wanted: str | None, status: int, content: bytes
) -> None:
    folder = tmp_path / "extracted"
    folder.mkdir()
    (folder / "a").write_bytes(b"before")
    (folder / "b.txt").write_bytes(b"0123456789")
    (folder / "c").write_bytes(b"behind")
    store.put_artifacts("run", 1, folder)
    app = Flask("test")

    @app.get("/")
    def send() -> Response:
        file = store.open_artifact("run", 1, "b.txt")
        assert isinstance(file, OpenFile)
        return download.response(file, None)

    answer = app.test_client().get("/", headers={"Range": wanted} if wanted else {})
    assert (answer.status_code, answer.data) == (status, content)
    assert answer.headers["Content-Length"] == str(len(content))
    answer.close()

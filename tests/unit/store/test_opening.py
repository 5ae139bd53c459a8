"""URLs of stores, and stores that cannot be used."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from light_run.errors import InsufficientStorage, SettingsError, StoreUnavailable
from light_run.store.folder import FolderObjects
from light_run.store.opening import open_store
from light_run.store.store import Store
from tests.support.bucket import create_bucket
from tests.support.proxy import breaking_proxy


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "is no kind of store"),
        ("/srv/light-run", "is no kind of store"),
        ("http://host/x", "'?http'? is no kind of store"),
        ("file://srv/light-run", "needs three slashes"),
        ("file:///", "is no folder"),
        ("file:///srv/../etc", "is no folder"),
        ("file:///srv?x=1", "has a '\\?'"),
        ("s3://", "no name of a bucket"),
        ("s3://UPPER/x", "no name of a bucket"),
        ("s3://bucket/a/../b", "prefix"),
        ("s3://bucket/a//b", "prefix"),
        ("s3://bucket/a*", "prefix"),
        ("s3://[x/y", "LIGHT_RUN_STORE_URL"),
    ],
)
def test_urls_that_name_no_store(url: str, message: str) -> None:
    with pytest.raises(SettingsError, match=f"LIGHT_RUN_STORE_URL.*{message}|{message}"):
        open_store(url)


def test_credentials_in_the_url_are_refused_and_not_shown() -> None:
    with pytest.raises(SettingsError, match="AWS_ACCESS_KEY_ID") as refused:
        open_store("s3://key:topsecret@bucket/x")
    assert "topsecret" not in str(refused.value)


def test_without_the_extra_the_message_says_how_to_install_it() -> None:
    program = """
import sys
sys.modules["s3fs"] = None
from light_run.errors import SettingsError
from light_run.store.opening import open_store
try:
    open_store("s3://bucket")
except SettingsError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pip install 'light-run[cluster]'" in done.stdout


def test_a_folder_needs_no_extra(tmp_path: Path) -> None:
    program = """
import sys
from light_run.store.opening import open_store
open_store(sys.argv[1]).close()
print([name for name in sys.modules if name.startswith(("s3fs", "fsspec", "botocore", "aiohttp"))])
"""
    command = [sys.executable, "-c", program, tmp_path.as_uri()]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_folder_that_is_not_mounted_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="does not exist: create it, or mount"):
        open_store((tmp_path / "missing").as_uri())
    assert not (tmp_path / "missing").exists()


def test_a_folder_that_goes_away_is_an_error_and_not_an_empty_store(tmp_path: Path) -> None:
    root = tmp_path / "store"
    root.mkdir()
    store = open_store(root.as_uri())
    store.put_log("run", 1, io.BytesIO(b"log"))
    root.rename(tmp_path / "away")
    for call in (
        lambda: store.put_log("run", 1, io.BytesIO(b"other")),
        lambda: store.open_log("run", 1),
        lambda: list(store.runs()),
        lambda: store.usage("run"),
        lambda: store.evict("run"),
        lambda: store.delete("run"),
        lambda: store.remove_input("run"),
    ):
        with pytest.raises(StoreUnavailable):
            call()
    (tmp_path / "away").rename(root)
    with store.open_log("run", 1) as file:
        assert file.read() == b"log"


def test_a_full_folder(tmp_path: Path) -> None:
    # A device that is always full stands in the place of the file that is being written.
    objects = FolderObjects(tmp_path)
    with pytest.raises(InsufficientStorage, match="is full"):
        objects._fill(os.open("/dev/full", os.O_WRONLY), [b"x"])


def test_an_error_of_the_source_is_not_the_folders(tmp_path: Path) -> None:
    class Source(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise OSError(errno.ENOSPC, "the source's own")

    store = Store(FolderObjects(tmp_path))
    with pytest.raises(OSError, match="the source's own"):
        store.put_input("run", Source())  # type: ignore[arg-type]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_write_that_was_cut_short_goes_with_its_run(tmp_path: Path) -> None:
    store = Store(FolderObjects(tmp_path))
    store.put_input("run", io.BytesIO(b"input"))
    # As a process that was killed leaves it.
    (tmp_path / "runs" / "run" / ".0123456789abcdef").write_bytes(b"half")
    assert store.usage("run") == 5
    store.delete("run")
    assert list((tmp_path / "runs").iterdir()) == []


def test_nobody_else_on_the_host_may_read_a_folder(tmp_path: Path) -> None:
    store = Store(FolderObjects(tmp_path))
    store.put_log("run", 1, io.BytesIO(b"log"))
    for path in (tmp_path / "runs").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0


def test_a_bucket_that_does_not_exist(s3: str) -> None:
    with pytest.raises(StoreUnavailable, match="bucket missing does not exist"):
        open_store("s3://missing/prefix")


def test_requests_that_break_off_are_sent_again(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    create_bucket(s3, "shaky")
    content = os.urandom(10 << 20)
    port = urlsplit(s3).port
    assert port is not None
    with breaking_proxy(port) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        # A store of its own for each: connections that are kept open are not cut.
        proxy.cuts = [0, 1]
        store = open_store("s3://shaky")
        store.put_input("run", io.BytesIO(content))
        store.close()
        assert proxy.cuts == []
        proxy.cuts = [0, 1000]
        store = open_store("s3://shaky")
        with store.open_input("run") as file:
            assert file.read() == content
        store.close()
        assert proxy.cuts == []


def test_a_bucket_whose_server_does_not_answer(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(StoreUnavailable, match="bucket warm cannot be used"):
        open_store("s3://warm")

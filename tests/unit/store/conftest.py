"""The back ends that the same tests run against: a directory, and a bucket of moto's S3 server, a stand-in."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from light_run.store.opening import open_store
from light_run.store.store import Store
from tests.support.bucket import create_bucket, running_s3

_numbers = itertools.count()


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """An S3 server, and an environment that leads to it; its URL."""
    with running_s3() as url, pytest.MonkeyPatch.context() as patch:
        for name, value in (
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL", url),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ):
            patch.setenv(name, value)
        create_bucket(url, "warm")
        # What fsspec starts once in a process and keeps: its loop, and a thread for it.
        store = open_store("s3://warm")
        assert list(store.runs()) == []
        store.close()
        yield url


@pytest.fixture(params=["file", "s3"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path, s3: str) -> str:
    """The URL of an empty store."""
    if request.param == "file":
        folder = tmp_path / "shared store"
        folder.mkdir()
        return folder.as_uri()
    name = f"bucket-{next(_numbers)}"
    create_bucket(s3, name)
    return f"s3://{name}/light-run/test"


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """An empty store."""
    store = open_store(store_url)
    yield store
    store.close()

"""Opens the store that a URL names."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from light_run.errors import SettingsError
from light_run.store.folder import FolderObjects
from light_run.store.objects import Objects
from light_run.store.store import Store

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*|")
_EXAMPLES = "give file:///srv/light-run or s3://bucket/prefix"


def open_store(url: str) -> Store:
    """Open the store at `url`: ``file:///srv/light-run`` or ``s3://bucket/prefix``.

    Raises `SettingsError` if the URL cannot be used, `StoreUnavailable` if the store cannot be reached.
    """
    store = Store(_objects(url))
    try:
        store.check()
    except BaseException:
        store.close()
        raise
    return store


def _objects(url: str) -> Objects:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise SettingsError(f"LIGHT_RUN_STORE_URL: {error}; {_EXAMPLES}") from None
    if parts.query or parts.fragment:
        raise SettingsError(f"LIGHT_RUN_STORE_URL: it has a '?' or a '#'; {_EXAMPLES}")
    if "@" in parts.netloc:
        # Not repeated here: it is a secret.
        raise SettingsError(
            "LIGHT_RUN_STORE_URL: it contains credentials; give them by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if parts.scheme == "file":
        return _folder(parts.netloc, unquote(parts.path, errors="surrogateescape"))
    if parts.scheme == "s3":
        return _bucket(parts.netloc, parts.path.strip("/"))
    raise SettingsError(f"LIGHT_RUN_STORE_URL: {parts.scheme or url!r} is no kind of store; {_EXAMPLES}")


def _folder(host: str, path: str) -> Objects:
    if host not in ("", "localhost"):
        raise SettingsError(f"LIGHT_RUN_STORE_URL: {host!r} is read as a host; a folder needs three slashes")
    if "\0" in path or ".." in path.split("/") or not path.strip("/"):
        raise SettingsError(f"LIGHT_RUN_STORE_URL: {path!r} is no folder of a store; {_EXAMPLES}")
    return FolderObjects(Path(path))


def _bucket(bucket: str, prefix: str) -> Objects:
    if not _BUCKET.fullmatch(bucket):
        raise SettingsError(f"LIGHT_RUN_STORE_URL: {bucket!r} is no name of a bucket; {_EXAMPLES}")
    if not _PREFIX.fullmatch(prefix):
        raise SettingsError(
            f"LIGHT_RUN_STORE_URL: the prefix {prefix!r} may have letters, digits, '.', '_', '-' and '/' only, and no "
            "segment that is empty or begins with '.'"
        )
    try:
        from light_run.store.bucket import BucketObjects
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("light_run"):
            raise
        raise SettingsError(
            "LIGHT_RUN_STORE_URL: s3:// needs s3fs, which is not installed: pip install 'light-run[cluster]'"
        ) from None
    return BucketObjects(bucket, prefix)

"""Named tokens, stored in a JSON file as SHA-256 hashes, so that the file does not reveal them.

{"tokens": [{"name": "ci", "sha256": "<64 hex digits>", "scopes": ["read", "run"], "maxRuns": 4}]}

The scopes are read (see runs), run (start, cancel and delete runs), metrics (read the metrics of the server) and
admin (all of these, for the runs of every token). `maxRuns` is optional; it limits the token's runs that have not
ended.
"""

from __future__ import annotations

import difflib
import fcntl
import hmac
import json
import logging
import os
import re
import secrets
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from light_run.errors import SettingsError

_log = logging.getLogger(__name__)

READ, RUN, METRICS, ADMIN = "read", "run", "metrics", "admin"
SCOPES = (READ, RUN, METRICS, ADMIN)
USUAL = (READ, RUN)
MOST_RUNS = 1_000_000
# Seconds between two checks whether the file has changed.
CHECK_INTERVAL = 1.0

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
# Makes tokens recognizable to people and to secret scanners.
_PREFIX = "lr_"
_FIELDS = {"name", "sha256", "scopes", "maxRuns"}


@dataclass(frozen=True, slots=True)
class Token:
    """A token and its permissions. `name` is None for LIGHT_RUN_TOKEN; `max_runs` None means no limit."""

    name: str | None
    digest: str
    scopes: frozenset[str]
    max_runs: int | None = None

    def may(self, scope: str) -> bool:
        """Return True if the token has `scope` or the scope admin."""
        return scope in self.scopes or ADMIN in self.scopes

    def sees(self, owner: str | None) -> bool:
        """Return True if this token can access the runs of `owner`."""
        return ADMIN in self.scopes or (self.name is not None and self.name == owner)


def digest(token: bytes) -> str:
    """Return the stored form of `token`: its SHA-256 in lower-case hex digits."""
    return sha256(token).hexdigest()


def only(token: str) -> Token:
    """Return the token of LIGHT_RUN_TOKEN, which has the scope admin."""
    return Token(None, digest(token.encode()), frozenset({ADMIN}))


def find(tokens: Sequence[Token], given: bytes) -> Token | None:
    """Find the token `given` in constant time, so that the time reveals nothing about the tokens."""
    mine = digest(given)
    found = None
    for token in tokens:
        # All digests have the same length, and all are compared, even after a match.
        if hmac.compare_digest(token.digest, mine):
            found = token
    return found


class TokenFile:
    """The tokens of the file `path`, which is reloaded when it changes. Raises `SettingsError`.

    If a reload fails, the old tokens stay valid and an error is logged. A deleted file has no tokens.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen = _state_of(path)
        self._tokens = read(path)
        self._checked = time.monotonic()
        self._stale = False

    def now(self) -> tuple[Token, ...]:
        """Return the current tokens."""
        with self._lock:
            if self._stale or time.monotonic() - self._checked >= CHECK_INTERVAL:
                self._reload_if_changed()
            return self._tokens

    def mark_stale(self) -> None:
        """Reload the file at the next request. Safe to call in a signal handler."""
        self._stale = True

    def _reload_if_changed(self) -> None:
        forced, self._stale, self._checked = self._stale, False, time.monotonic()
        seen = _state_of(self._path)
        if seen == self._seen and not forced:
            return
        self._seen = seen
        try:
            self._tokens = read(self._path) if seen is not None else ()
        except SettingsError as error:
            _log.error("cannot reload the tokens, the old ones stay valid: %s", error)
        else:
            _log.info("tokens reloaded", extra={"count": len(self._tokens)})


def read(path: Path) -> tuple[Token, ...]:
    """Read the tokens in the file `path`. Raises `SettingsError` with what is wrong with the file."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise SettingsError(f"{path}: no such file; `light-run token new NAME` creates it") from None
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise SettingsError(f"{path}: the file is not valid JSON") from None
    if not isinstance(found, dict) or found.keys() != {"tokens"} or not isinstance(found["tokens"], list):
        raise SettingsError(f'{path}: the file must be {{"tokens": [...]}} and nothing else')
    tokens = tuple(_token(path, number, each) for number, each in enumerate(found["tokens"], 1))
    for what in ("name", "digest"):
        if len({getattr(token, what) for token in tokens}) < len(tokens):
            raise SettingsError(f"{path}: two tokens have the same {what}")
    return tokens


def create(path: Path, name: str, scopes: Sequence[str] = USUAL, max_runs: int | None = None) -> str:
    """Create a token called `name`, add its hash to the file `path` and return it. The token is not stored.

    The file is replaced atomically; a new one has mode 0600. Raises `SettingsError`.
    """
    token = _PREFIX + secrets.token_urlsafe(32)
    entry: dict[str, Any] = {"name": name, "sha256": digest(token.encode()), "scopes": list(scopes)}
    if max_runs is not None:
        entry["maxRuns"] = max_runs
    made = _token(path, 1, entry)
    with _locked(path):
        known = read(path) if path.exists() else ()
        if any(each.name == name for each in known):
            raise SettingsError(f"{path}: the token {name} already exists: choose another name or remove it")
        _write(path, (*known, made))
    return token


def remove(path: Path, name: str) -> None:
    """Remove the token called `name` from the file `path`. Raises `SettingsError`, also if there is none."""
    with _locked(path):
        known = read(path)
        left = [each for each in known if each.name != name]
        if len(left) == len(known):
            close = difflib.get_close_matches(name, [str(each.name) for each in known], n=1)
            meant = f": did you mean {close[0]}?" if close else "; `light-run token list` lists all tokens"
            raise SettingsError(f"{path}: there is no token {name}{meant}")
        _write(path, left)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    # Serializes concurrent changes of the file, so that none is lost.
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise SettingsError(f"{path.parent}: {error.strerror}") from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    finally:
        os.close(folder)


def _token(path: Path, number: int, entry: Any) -> Token:
    where = f"{path}: token {number}"
    if not isinstance(entry, dict) or not entry.keys() <= _FIELDS or not {"name", "sha256"} <= entry.keys():
        raise SettingsError(f"{where}: the keys must be name, sha256, scopes and, optionally, maxRuns")
    name, hashed, scopes = entry["name"], entry["sha256"], entry.get("scopes")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise SettingsError(f"{where}: name must be 1 to 64 letters, digits, '_', '.' and '-'")
    if not isinstance(hashed, str) or not _DIGEST.fullmatch(hashed):
        raise SettingsError(f"{where}: sha256 must be 64 lower-case hex digits")
    if not isinstance(scopes, list) or not scopes or not all(each in SCOPES for each in scopes):
        raise SettingsError(f"{where}: scopes must be a non-empty list of {', '.join(SCOPES)}")
    most = entry.get("maxRuns")
    if most is not None and (
        isinstance(most, bool) or not isinstance(most, int) or not 0 < most <= MOST_RUNS
    ):
        raise SettingsError(f"{where}: maxRuns must be a whole number from 1 to {MOST_RUNS}")
    return Token(name, hashed, frozenset(scopes), most)


def _entry(token: Token) -> dict[str, Any]:
    scopes = [scope for scope in SCOPES if scope in token.scopes]
    entry = {"name": token.name, "sha256": token.digest, "scopes": scopes}
    return entry if token.max_runs is None else {**entry, "maxRuns": token.max_runs}


def _write(path: Path, tokens: Sequence[Token]) -> None:
    text = json.dumps({"tokens": [_entry(token) for token in tokens]}, indent=2) + "\n"
    # mkstemp uses mode 0600. The owner is kept, so that a server run by another user can still read the file.
    descriptor, temporary = tempfile.mkstemp(prefix=".tokens-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w") as file:
            with suppress(FileNotFoundError, PermissionError):
                before = path.stat()
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _state_of(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns

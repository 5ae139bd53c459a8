"""Named tokens: who may do what, kept in one JSON file as SHA-256, so that nobody reads a token there.

{"tokens": [{"name": "ci", "sha256": "<64 hex digits>", "scopes": ["read", "run"], "maxRuns": 4}]}

`scopes` are of read (look at runs), run (start, cancel and delete them), metrics (what is measured of all of
them) and admin (all that, of everybody); `maxRuns` caps the runs of a token that have not ended, and may be left out.
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
# A changed file is noticed after so many seconds.
LOOK_EVERY = 1.0

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
# Marks what it is to people and to programs that look for secrets where none should be.
_PREFIX = "lr_"
_FIELDS = {"name", "sha256", "scopes", "maxRuns"}


@dataclass(frozen=True, slots=True)
class Token:
    """What the holder of one token may do; `name` None is the one of LIGHT_RUN_TOKEN, `max_runs` None no cap."""

    name: str | None
    digest: str
    scopes: frozenset[str]
    max_runs: int | None = None

    def may(self, scope: str) -> bool:
        """True where the token has `scope`, or is an admin's."""
        return scope in self.scopes or ADMIN in self.scopes

    def sees(self, owner: str | None) -> bool:
        """True where the runs of `owner` are there for this token."""
        return ADMIN in self.scopes or (self.name is not None and self.name == owner)


def digest(token: bytes) -> str:
    """What is kept of `token`: its SHA-256 in lower-case hex digits."""
    return sha256(token).hexdigest()


def only(token: str) -> Token:
    """The one token of LIGHT_RUN_TOKEN, which may do everything."""
    return Token(None, digest(token.encode()), frozenset({ADMIN}))


def find(tokens: Sequence[Token], given: bytes) -> Token | None:
    """The token that `given` is; how long this takes says nothing of any of them."""
    mine = digest(given)
    found = None
    for token in tokens:
        # Digests have one length, and all are compared, also after the right one.
        if hmac.compare_digest(token.digest, mine):
            found = token
    return found


class TokenFile:
    """The tokens of the file `path`, read again when it has changed. Raises `SettingsError`.

    A file that is broken later on changes nothing: the tokens stay as they were, and the log says so.
    One that is gone has no tokens.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen = _state_of(path)
        self._tokens = read(path)
        self._looked = time.monotonic()
        self._stale = False

    def now(self) -> tuple[Token, ...]:
        """The tokens as they are now."""
        with self._lock:
            if self._stale or time.monotonic() - self._looked >= LOOK_EVERY:
                self._look()
            return self._tokens

    def mark_stale(self) -> None:
        """Have the file read again by the next request; all that a signal's handler may do."""
        self._stale = True

    def _look(self) -> None:
        forced, self._stale, self._looked = self._stale, False, time.monotonic()
        seen = _state_of(self._path)
        if seen == self._seen and not forced:
            return
        self._seen = seen
        try:
            self._tokens = read(self._path) if seen is not None else ()
        except SettingsError as error:
            _log.error("the tokens stay as they were: %s", error)
        else:
            _log.info("tokens read", extra={"count": len(self._tokens)})


def read(path: Path) -> tuple[Token, ...]:
    """The tokens in the file `path`. Raises `SettingsError` naming what is wrong with it."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise SettingsError(f"{path}: there is no such file; `light-run token new NAME` makes it") from None
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise SettingsError(f"{path}: this is not JSON") from None
    if not isinstance(found, dict) or found.keys() != {"tokens"} or not isinstance(found["tokens"], list):
        raise SettingsError(f'{path}: give {{"tokens": [...]}} and nothing else')
    tokens = tuple(_token(path, number, each) for number, each in enumerate(found["tokens"], 1))
    for what in ("name", "digest"):
        if len({getattr(token, what) for token in tokens}) < len(tokens):
            raise SettingsError(f"{path}: two tokens have the same {what}")
    return tokens


def create(path: Path, name: str, scopes: Sequence[str] = USUAL, max_runs: int | None = None) -> str:
    """Make a token called `name`, write its hash into the file `path` and return it: it is kept nowhere.

    The file is made where there is none, with mode 0600, and replaced as a whole. Raises `SettingsError`.
    """
    token = _PREFIX + secrets.token_urlsafe(32)
    entry: dict[str, Any] = {"name": name, "sha256": digest(token.encode()), "scopes": list(scopes)}
    if max_runs is not None:
        entry["maxRuns"] = max_runs
    made = _token(path, 1, entry)
    with _locked(path):
        known = read(path) if path.exists() else ()
        if any(each.name == name for each in known):
            raise SettingsError(f"{path}: there is a token {name} already")
        _write(path, (*known, made))
    return token


def remove(path: Path, name: str) -> None:
    """Take the token called `name` out of the file `path`. Raises `SettingsError`, also where there is none."""
    with _locked(path):
        known = read(path)
        left = [each for each in known if each.name != name]
        if len(left) == len(known):
            close = difflib.get_close_matches(name, [str(each.name) for each in known], n=1)
            meant = f"; {close[0]} is probably meant" if close else ""
            raise SettingsError(f"{path}: there is no token {name}{meant}")
        _write(path, left)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    # Two who change the file at the same time both have their will.
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
        raise SettingsError(f"{where}: give name, sha256, scopes and maxRuns, and nothing else")
    name, hashed, scopes = entry["name"], entry["sha256"], entry.get("scopes")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise SettingsError(f"{where}: a name has 1 to 64 letters, digits, '_', '.' and '-'")
    if not isinstance(hashed, str) or not _DIGEST.fullmatch(hashed):
        raise SettingsError(f"{where}: sha256 has 64 lower-case hex digits")
    if not isinstance(scopes, list) or not scopes or not all(each in SCOPES for each in scopes):
        raise SettingsError(f"{where}: scopes is a list of {', '.join(SCOPES)}")
    most = entry.get("maxRuns")
    if most is not None and (
        isinstance(most, bool) or not isinstance(most, int) or not 0 < most <= MOST_RUNS
    ):
        raise SettingsError(f"{where}: maxRuns is a whole number from 1 to {MOST_RUNS}")
    return Token(name, hashed, frozenset(scopes), most)


def _entry(token: Token) -> dict[str, Any]:
    scopes = [scope for scope in SCOPES if scope in token.scopes]
    entry = {"name": token.name, "sha256": token.digest, "scopes": scopes}
    return entry if token.max_runs is None else {**entry, "maxRuns": token.max_runs}


def _write(path: Path, tokens: Sequence[Token]) -> None:
    text = json.dumps({"tokens": [_entry(token) for token in tokens]}, indent=2) + "\n"
    # Made with mode 0600; a server run by another user keeps reading it where that owns the file.
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

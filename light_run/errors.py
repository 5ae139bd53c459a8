"""Every exception light-run raises, in one tree.

LightRunError
├── SettingsError              a setting that cannot be used; names the variable
├── InvalidSpec                a run that cannot be asked for; lists every fault
├── RunError                   a request about a run that cannot be met
│   ├── RunNotFound
│   ├── RunNotActive           cancelling what has ended
│   ├── RunNotStarted          pausing what has not begun
│   ├── StdinClosed            writing to a run that takes no more input
│   ├── RunActive              deleting what still runs
│   ├── Overloaded             no room for another run now
│   ├── IdempotencyConflict    the key was used with another body
│   ├── PayloadTooLarge        its files are more than the server takes
│   └── InsufficientStorage    the state directory is full
├── NetworkError
│   ├── NetworkExists
│   ├── NetworkConflict        its addresses overlap with another's
│   ├── NetworkInUse
│   └── NetworkNotFound        none that light-run created
├── JournalError               the journal cannot be used (newer, in use, not writable)
├── StoreError                 the store that several hosts share
│   ├── StoreUnavailable       it cannot be reached, or refuses
│   └── StoredNotFound         it has no such object
├── ArtifactError
│   ├── InvalidPath            a path that leaves its folder, in any spelling
│   └── ArtifactNotFound
├── EngineError                the container engine refused, failed or is not there
│   ├── EngineUnavailable      nothing answers, or the connection broke
│   ├── EngineRefused          it answered no: its status code and its words
│   ├── ImageNotFound
│   ├── PullFailed
│   ├── BuildFailed            a `run` step failed
│   ├── StartFailed            create or start was refused
│   └── ContainerGone          the container vanished under its run
├── ClientError                a server that was asked over HTTP did not do it; see below
│   ├── ServerUnavailable      nothing answers, or the connection broke, for as long as was tried
│   ├── Unauthorized           no token, one that is not known, or one that may not do this
│   ├── Refused                an answer that has no name of its own: its status and word
│   │   └── NoSuchRoute        nothing of light-run's is at the URL
│   ├── DownloadFailed         an artifact did not come whole
│   └── StillRunning           a run did not end in the time there was
└── Cancelled                  the run was cancelled while something was under way

What a program inside a container does (exit code, timeout, out of memory) is data in a
result, never an exception.

Where a server's answer has a name above (a run that is not there, a fault in a request), the client
raises the very exception that the server answered for; `ClientError` is for what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus


class LightRunError(Exception):
    """Base of everything raised here; ``str()`` is one sentence for a person."""


class SettingsError(LightRunError):
    """A setting cannot be used."""


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a request: where (`path`), a word (`code`), a sentence (`message`)."""

    path: tuple[str | int, ...]
    code: str
    message: str


class InvalidSpec(LightRunError):
    """A run that cannot be asked for; `faults` has every reason at once."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(fault.message for fault in self.faults))


class RunError(LightRunError):
    """A request about a run that cannot be met."""


class RunNotFound(RunError):
    """No run has that id."""


class RunNotActive(RunError):
    """The run has ended already."""


class RunNotStarted(RunError):
    """The run has no container at work yet."""


class StdinClosed(RunError):
    """The standard input of the run has ended, or was never open for this."""


class RunActive(RunError):
    """The run has not ended yet."""


class Overloaded(RunError):
    """No room for another run now; try again after `retry_after` seconds."""

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class IdempotencyConflict(RunError):
    """The Idempotency-Key was used with another body."""


class PayloadTooLarge(RunError):
    """The files of a run are more, or have more bytes, than the server takes."""


class InsufficientStorage(RunError):
    """The state directory has no room left."""


class JournalError(LightRunError):
    """The journal cannot be used."""


class StoreError(LightRunError):
    """The store that several hosts share did not do what was asked."""


class StoreUnavailable(StoreError):
    """The store cannot be reached, or refuses; try again later."""


class StoredNotFound(StoreError):
    """The store has no such object."""


class ArtifactError(LightRunError):
    """An artifact that cannot be given."""


class InvalidPath(ArtifactError):
    """A path that leaves its folder, in whatever spelling."""


class ArtifactNotFound(ArtifactError):
    """No such file or directory among the run's artifacts."""


class NetworkError(LightRunError):
    """A network of the engine cannot be created or deleted."""


class NetworkExists(NetworkError):
    """There is a network of that name already."""


class NetworkConflict(NetworkError):
    """The network's addresses overlap with those of another."""


class NetworkInUse(NetworkError):
    """A container is connected to the network."""


class NetworkNotFound(NetworkError):
    """light-run has created no network of that name."""


class EngineError(LightRunError):
    """The container engine refused, failed, or is not there."""


class EngineUnavailable(EngineError):
    """The engine does not answer, or the connection to it broke."""


class EngineRefused(EngineError):
    """The engine answered no: `status` is the HTTP status of its answer, ``str()`` its own words."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status

    @property
    def not_found(self) -> bool:
        """True where the engine has no such thing."""
        return self.status == HTTPStatus.NOT_FOUND

    @property
    def conflict(self) -> bool:
        """True where the thing is in no state for that, or its name is taken."""
        return self.status == HTTPStatus.CONFLICT


class ImageNotFound(EngineError):
    """The image exists neither here nor at its registry."""


class PullFailed(EngineError):
    """The image may exist but could not be pulled."""


class BuildFailed(EngineError):
    """A `run` step failed."""


class StartFailed(EngineError):
    """The engine refused to create or start the container."""


class ContainerGone(EngineError):
    """The container vanished under its run."""


class ClientError(LightRunError):
    """A server that was asked over HTTP did not do what it was asked."""


class ServerUnavailable(ClientError):
    """Nothing answers at the server's URL, or the connection to it broke."""


class Unauthorized(ClientError):
    """The server asks for a token, knows this one not, or does not let it do this."""


class Refused(ClientError):
    """The server answered no: `status` is that of its answer, `word` its ``error``, where it has one."""

    def __init__(self, message: str, status: int, word: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.word = word


class NoSuchRoute(Refused):
    """The server has nothing at the URL: it is older than what asks, or its address is another one."""


class DownloadFailed(ClientError):
    """An artifact did not come whole."""


class StillRunning(ClientError):
    """A run did not end in the time there was to wait for it; it goes on."""


class Cancelled(LightRunError):
    """The run was cancelled while something was under way."""

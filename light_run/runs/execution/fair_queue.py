"""The queue of the executor: in order for each token, in turn between them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar


class Owned(Protocol):
    """A job that waits."""

    @property
    def run_id(self) -> str:
        """The id of the job's run."""

    @property
    def owner(self) -> str | None:
        """The token that the run belongs to; None is the operator."""


J = TypeVar("J", bound=Owned)


class FairQueue(Generic[J]):
    """Jobs that wait for a slot. Not thread-safe."""

    def __init__(self) -> None:
        self._queues: dict[str | None, OrderedDict[str, J]] = {}
        # When each owner was served last, counted in jobs; there are no more owners than tokens.
        self._served: dict[str | None, int] = {}
        self._turn = 0
        self._owners: dict[str, str | None] = {}

    def __len__(self) -> int:
        return len(self._owners)

    def __contains__(self, run_id: object) -> bool:
        return run_id in self._owners

    def __iter__(self) -> Iterator[J]:
        for queue in self._queues.values():
            yield from queue.values()

    def waiting(self, owner: str | None) -> int:
        """Return how many jobs of `owner` wait."""
        return len(self._queues.get(owner, ()))

    def add(self, job: J, *, first: bool = False) -> None:
        """Add a job behind those of its owner, or before them if it is to be `first`."""
        queue = self._queues.setdefault(job.owner, OrderedDict())
        queue[job.run_id] = job
        self._owners[job.run_id] = job.owner
        if first:
            queue.move_to_end(job.run_id, last=False)

    def remove(self, run_id: str) -> J | None:
        """Remove a job and return it, or None if it does not wait here."""
        if run_id not in self._owners:
            return None
        owner = self._owners.pop(run_id)
        queue = self._queues[owner]
        job = queue.pop(run_id)
        if not queue:
            del self._queues[owner]
        return job

    def take(self, at_work: Callable[[str | None], int], may_start: Callable[[str | None], bool]) -> J | None:
        """Remove the next job: the first one of the owner who has the fewest `at_work` of those who `may_start` one.

        Of owners with equally many, it is the one who was served before the others. None if there is no such job.
        """
        owners = [owner for owner in self._queues if may_start(owner)]
        if not owners:
            return None
        owner = min(owners, key=lambda owner: (at_work(owner), self._served.get(owner, 0)))
        self._turn += 1
        self._served[owner] = self._turn
        return self.remove(next(iter(self._queues[owner])))

    def clear(self) -> list[J]:
        """Remove all jobs and return them."""
        jobs = list(self)
        self._queues.clear()
        self._owners.clear()
        return jobs

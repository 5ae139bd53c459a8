"""Following the logs of runs: each log is read once as it grows, however many clients follow it.

The thread that takes a run's output only says that there is more. Those who follow read the spool
themselves: one who is slow costs a place in the file, and no memory. They mostly stand at the same place,
where the first of them reads for all.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from light_run.engine.output.lines import START, Cursor, OutputLine, last_lines, read_log, read_on
from light_run.engine.output.raw import OutputReader, output_size, read_output
from light_run.engine.output.search import LineCount, count_lines, find_line
from light_run.engine.spec import RawPiece
from light_run.errors import RunNotFound
from light_run.runs.model import RunRecord
from light_run.runs.storage.lookup import RunLookup

# Batches that are kept for followers who reach the same position a little later.
_KEPT = 4
# Reads a second of all followers together: output in many small pieces must not take the processor from the runs.
_LOOKS = 4000
# The longest time between two reads of one follower, in seconds.
_LATEST = 0.03

Render = Callable[[Sequence[OutputLine]], bytes]


class LogBatch:
    """`lines` that came together, `after`, where the next ones begin, and the `longest` line's characters."""

    def __init__(self, lines: list[OutputLine], after: Cursor) -> None:
        self.lines = lines
        self.after = after
        self.longest = max((len(line.text) for line in lines), default=0)
        self._lock = threading.Lock()
        self._rendered: dict[Hashable, bytes] = {}

    def rendered(self, how: Hashable, render: Render) -> bytes:
        """Return the lines rendered by `render`, once for all followers with the same `how`."""
        with self._lock:
            found = self._rendered.get(how)
            if found is None:
                found = self._rendered[how] = render(self.lines)
        return found


class LogFollowing:
    """The followers of the runs in `store`; `log` returns the path of a run's spool."""

    def __init__(self, store: RunLookup, log: Callable[[str], Path]) -> None:
        self._store = store
        self._log = log
        self._lock = threading.Lock()
        self._feeds: dict[str, _Feed] = {}
        self._count = 0
        self._closed = False

    def changed(self, run_id: str) -> None:
        """Notify the followers of a run that its log has grown or that it has ended."""
        # Reading a dict once needs no lock: a new follower reads the log only after it is registered.
        feed = self._feeds.get(run_id)
        if feed is not None:
            feed.changed()

    def close(self) -> None:
        """End all following."""
        with self._lock:
            self._closed = True
            feeds = list(self._feeds.values())
        for feed in feeds:
            feed.changed()

    def lines(self, run_id: str) -> Iterator[OutputLine]:
        """Yield the lines that a run has written so far; none for a run that does not exist."""
        run = self._find(run_id)
        return read_log(self._log(run_id), ended=run is None or run.ended)

    def count(self, run_id: str, *, since: int = -1, stream: str | None = None) -> LineCount:
        """Count the lines that a run has written so far, and those of `stream` (None: both) after the line `since`."""
        run = self._find(run_id)
        ended = run is None or run.ended
        return count_lines(self._log(run_id), since=since, stream=stream, ended=ended)

    def find(
        self, run_id: str, *, since: int = -1, stream: str | None = None, tail: int | None = None
    ) -> tuple[Cursor, int]:
        """Find where the lines of `stream` after the line `since` begin, or the last `tail` of them.

        Returns the place to read from, and the line after which they come: from that place on, lines up to this one
        have to be left out.
        """
        if tail is None and since < 0:
            return START, since
        skip = 0 if tail is None else self.count(run_id, since=since, stream=stream).wanted - tail
        return find_line(self._log(run_id), max(0, skip), since=since, stream=stream)

    def batches(
        self, run_id: str, *, follow: bool, beat: float, at: Cursor = START
    ) -> Iterator[LogBatch | RunRecord | None]:
        """Yield the lines of a run from `at` on in batches; with `follow` until the run has ended.

        None comes where there was nothing for `beat` seconds. Last comes the run, where it has ended and
        each of its lines was given; not where it goes on, is gone, or this server stops.
        """
        with self._joined(run_id) as feed:
            while True:
                seen, begun, run = feed.version, at, self._find(run_id)
                # If the run had ended before, what is read from here on is complete.
                while (batch := feed.read(at)).after != at:
                    at = batch.after
                    if batch.lines:
                        yield batch
                    if self._closed and follow:
                        return
                if run is not None and run.ended:
                    yield from self._rest(run, at)
                    return
                if run is None or not follow or self._closed:
                    return
                if at != begun:
                    time.sleep(min(_LATEST, self._count / _LOOKS))
                if not feed.wait(seen, beat):
                    yield None

    def output_size(self, run_id: str, stream: str | None) -> int:
        """Return how many bytes a run has written so far to `stream` (None: both)."""
        return output_size(self._log(run_id), stream)

    def output(self, run_id: str, stream: str | None, start: int, stop: int) -> Iterator[RawPiece]:
        """Yield the bytes from `start` up to `stop` of what a run has written to `stream`."""
        return read_output(self._log(run_id), stream, start, stop)

    def output_pieces(
        self, run_id: str, *, stream: str | None, start: int, beat: float
    ) -> Iterator[list[RawPiece] | None]:
        """Yield what a run writes to `stream`, from byte `start` on, as it comes, until the run has ended.

        None comes where there was nothing for `beat` seconds.
        """
        reader = OutputReader(self._log(run_id), stream, start)
        with self._joined(run_id) as feed:
            while True:
                seen, came, run = feed.version, False, self._find(run_id)
                # If the run had ended before, what is read from here on is complete.
                while pieces := reader.read():
                    came = True
                    yield pieces
                    if self._closed:
                        return
                if run is None or run.ended or self._closed:
                    return
                if came:
                    time.sleep(min(_LATEST, self._count / _LOOKS))
                if not feed.wait(seen, beat):
                    yield None

    def _rest(self, run: RunRecord, at: Cursor) -> Iterator[LogBatch | RunRecord]:
        lines, after = last_lines(at)
        if lines:
            yield LogBatch(lines, after)
        # The run may have been deleted, with its log, before the log was read to its end.
        if self._find(run.id) is not None:
            yield run

    def _find(self, run_id: str) -> RunRecord | None:
        try:
            return self._store.get(run_id)
        except RunNotFound:
            return None

    @contextmanager
    def _joined(self, run_id: str) -> Iterator[_Feed]:
        with self._lock:
            feed = self._feeds.setdefault(run_id, _Feed(self._log(run_id)))
            feed.followers += 1
            self._count += 1
        try:
            yield feed
        finally:
            with self._lock:
                feed.followers -= 1
                self._count -= 1
                if not feed.followers:
                    del self._feeds[run_id]


class _Feed:
    # The log of one run for all its followers; `version` grows with each change.

    def __init__(self, log: Path) -> None:
        self.followers = 0
        self.version = 0
        self._log = log
        self._changed = threading.Condition()
        # Held while the log is read: only followers of the same run wait for it, never the run.
        self._turn = threading.Lock()
        self._batches: OrderedDict[int, LogBatch] = OrderedDict()
        self._nothing = (-1, -1)

    def changed(self) -> None:
        with self._changed:
            self.version += 1
            self._changed.notify_all()

    def wait(self, seen: int, seconds: float) -> bool:
        """False where nothing has changed since `version` was `seen`."""
        with self._changed:
            return self._changed.wait_for(lambda: self.version != seen, seconds)

    def read(self, at: Cursor) -> LogBatch:
        """What comes at `at`, as far as it is there; a batch that goes no further where nothing is."""
        nothing = at.offset, self.version
        with self._turn:
            if self._nothing == nothing:
                return LogBatch([], at)
            # All that was read up to a place says how it goes on there.
            found = self._batches.get(at.offset)
            if found is None:
                found = LogBatch(*read_on(self._log, at))
                if found.after != at:
                    self._batches[at.offset] = found
                    if len(self._batches) > _KEPT:
                        self._batches.popitem(last=False)
                else:
                    # Until something changes: the first who comes to the end looks there for all.
                    self._nothing = nothing
        return found

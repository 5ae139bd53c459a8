"""Lines found in a spool: the same ones that reading all of it would find."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from light_run.engine.output.frames import STDERR, STDOUT
from light_run.engine.output.lines import Cursor, OutputLine, last_lines, read_log, read_on
from light_run.engine.output.search import count_lines, find_line
from light_run.engine.output.spool import LogWriter

MIB = 1 << 20


def spool(path: Path, output: list[tuple[int, bytes]]) -> Path:
    """A spool with `output`."""
    log = LogWriter(path, 20 * MIB)
    for stream, data in output:
        log.write(stream, memoryview(data))
    log.close()
    return path


def read_from(path: Path, at: Cursor) -> list[OutputLine]:
    """All lines from `at` to the end of an output that has ended."""
    lines: list[OutputLine] = []
    while True:
        more, after = read_on(path, at)
        lines += more
        if after == at:
            return lines + last_lines(at)[0]
        at = after


@given(
    output=st.lists(
        st.tuples(st.sampled_from([STDOUT, STDERR]), st.text("ab\n", max_size=6).map(str.encode)), max_size=12
    ),
    since=st.integers(-1, 8),
    stream=st.sampled_from([None, "stdout", "stderr"]),
    tail=st.integers(0, 8),
)
def test_lines_are_found_as_by_reading_all(
    output: list[tuple[int, bytes]], since: int, stream: str | None, tail: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = spool(Path(folder) / "log", output)
        everything = list(read_log(path))
        wanted = [line for line in everything if line.seq > since and stream in (None, line.stream)]
        count = count_lines(path, since=since, stream=stream, ended=True)
        assert (count.all, count.wanted) == (len(everything), len(wanted))
        at, after = find_line(path, max(0, count.wanted - tail), since=since, stream=stream)
        found = [line for line in read_from(path, at) if line.seq > after and stream in (None, line.stream)]
        assert found == (wanted[-tail:] if tail else [])


def test_an_unfinished_line_of_a_run_at_work_does_not_count(tmp_path: Path) -> None:
    path = spool(tmp_path / "log", [(STDOUT, b"one\ntwo")])
    assert count_lines(path, since=-1, stream=None, ended=False).all == 1
    assert count_lines(path, since=-1, stream=None, ended=True).all == 2


def test_a_spool_that_is_not_there_has_no_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert count_lines(path, since=-1, stream=None, ended=True).all == 0
    assert find_line(path, 0, since=-1, stream=None) == (Cursor(), -1)


@pytest.mark.parametrize("piece", [16 << 10, 1 << 20, 3 << 20])
def test_the_last_line_is_found_close_to_the_end(tmp_path: Path, piece: int) -> None:
    size = 9 * MIB
    path = spool(tmp_path / "log", [(STDOUT, b"\n" * piece)] * (size // piece))
    count = count_lines(path, since=-1, stream=None, ended=True)
    assert count.all == size
    at, after = find_line(path, count.wanted - 1, since=-1, stream=None)
    assert at.offset >= path.stat().st_size - piece - 16
    assert after == size - 2

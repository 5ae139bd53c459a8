"""Output: frames taken apart, spooled within a cap, taken up again, and read back as lines."""

from __future__ import annotations

import itertools
import os
import resource
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from light_run.engine.output.frames import STDERR, STDOUT, Demultiplexer
from light_run.engine.output.lines import START, LineAssembler, OutputLine, last_lines, read_log, read_on
from light_run.engine.output.spool import RECORD, LogWriter, records
from light_run.engine.output.tail import Tail

Frames = list[tuple[int, bytes]]


def framed(frames: Frames) -> bytes:
    """`frames` as the engine sends them."""
    return b"".join(
        bytes([stream, 0, 0, 0]) + struct.pack(">L", len(payload)) + payload for stream, payload in frames
    )


def fed(pieces: list[bytes]) -> Frames:
    """What a demultiplexer makes of `pieces`, neighbours of the same stream joined."""
    demultiplexer = Demultiplexer()
    found: Frames = []
    for piece in pieces:
        for stream, payload in demultiplexer.feed(piece):
            if found and found[-1][0] == stream:
                found[-1] = (stream, found[-1][1] + bytes(payload))
            else:
                found.append((stream, bytes(payload)))
    return found


def written(path: Path, *output: tuple[int, bytes], cap: int = 1 << 20) -> LogWriter:
    """A closed writer that has been given `output`."""
    log = LogWriter(path, cap)
    give(log, *output)
    return log


def give(log: LogWriter, *output: tuple[int, bytes]) -> None:
    for stream, data in output:
        log.write(stream, memoryview(data))
    log.close()


def texts(path: Path, *, ended: bool = True) -> list[tuple[str, str]]:
    return [(line.stream, line.text) for line in read_log(path, ended=ended)]


def kept(path: Path) -> Frames:
    with path.open("rb", buffering=0) as file:
        return [(stream, data) for stream, _, data in records(file)]


# --- the engine's stream ----------------------------------------------------------------------------------

THREE: Frames = [(STDOUT, b"one"), (STDERR, b"second"), (STDOUT, b"\0\n\xff")]


def test_frames_cut_anywhere() -> None:
    data = framed(THREE)
    for begin, end in itertools.combinations(range(len(data) + 1), 2):
        assert fed([data[:begin], data[begin:end], data[end:]]) == THREE, (begin, end)


def test_frames_byte_by_byte() -> None:
    assert fed([bytes([byte]) for byte in framed(THREE)]) == THREE


def test_frames_of_one_stream_are_joined() -> None:
    lines = [(STDOUT, b"y\n")] * 1000
    found = Demultiplexer().feed(framed([*lines, (STDERR, b"no\n"), *lines]))
    assert [(stream, len(payload)) for stream, payload in found] == [
        (STDOUT, 2000),
        (STDERR, 3),
        (STDOUT, 2000),
    ]


def test_an_empty_frame_and_an_empty_piece_change_nothing() -> None:
    assert fed([b"", framed([(STDOUT, b"")]), b"", framed(THREE), b""]) == THREE


def test_a_frame_of_the_largest_length_is_not_waited_for() -> None:
    demultiplexer = Demultiplexer()
    head = bytes([STDERR, 0, 0, 0]) + struct.pack(">L", (1 << 32) - 1)
    assert [(stream, bytes(data)) for stream, data in demultiplexer.feed(head + b"begun")] == [
        (STDERR, b"begun")
    ]


@given(
    frames=st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(max_size=40)), max_size=8),
    data=st.data(),
)
def test_frames_in_any_pieces(frames: Frames, data: st.DataObject) -> None:
    stream = framed(frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    pieces = [stream[begin:end] for begin, end in itertools.pairwise([0, *cuts, len(stream)])]
    for number in (STDOUT, STDERR):
        together = b"".join(payload for found, payload in fed(pieces) if found == number)
        assert together == b"".join(payload for sent, payload in frames if sent == number)
    assert fed(pieces) == fed([framed([frame for frame in frames if frame[1]])])


# --- the spool --------------------------------------------------------------------------------------------


def test_what_is_written_is_there_at_once(tmp_path: Path) -> None:
    log = LogWriter(tmp_path / "log", 100)
    try:
        log.write(STDOUT, memoryview(b"a\nb"))
        assert texts(tmp_path / "log", ended=False) == [("stdout", "a")]
        log.write(STDOUT, memoryview(b"c\n"))
        assert texts(tmp_path / "log", ended=False) == [("stdout", "a"), ("stdout", "bc")]
    finally:
        log.close()


def test_the_cap_holds_to_the_byte(tmp_path: Path) -> None:
    log = written(tmp_path / "log", (STDOUT, b"12345"), (STDERR, b"67890"), (STDOUT, b"x"), cap=8)
    assert kept(tmp_path / "log") == [(STDOUT, b"12345"), (STDERR, b"678")]
    assert log.truncated


def test_output_of_just_the_cap_is_whole(tmp_path: Path) -> None:
    log = written(tmp_path / "log", (STDOUT, b"12345"), (STDERR, b""), (STDERR, b"678"), cap=8)
    assert kept(tmp_path / "log") == [(STDOUT, b"12345"), (STDERR, b"678")]
    assert not log.truncated


def test_an_earlier_spool_is_begun_anew(tmp_path: Path) -> None:
    written(tmp_path / "log", (STDOUT, b"old\n" * 100))
    written(tmp_path / "log", (STDOUT, b"new\n"))
    assert texts(tmp_path / "log") == [("stdout", "new")]


@pytest.mark.parametrize("cap", [0, 5, 100])
def test_a_full_disk_costs_lines_and_nothing_else(cap: int, caplog: pytest.LogCaptureFixture) -> None:
    # /dev/full: every write fails, as on a full disk.
    log = LogWriter(Path("/dev/full"), cap)
    try:
        for _ in range(3):
            log.write(STDOUT, memoryview(b"x" * 50))
    finally:
        log.close()
    assert log.truncated
    assert caplog.text.count("/dev/full cannot be written") == (cap > 0)


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let no file of this process grow past `size` bytes: what fits is written, then nothing more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room", [18, 19, 31, 32, 60])
def test_once_there_was_no_room_nothing_more_is_kept(tmp_path: Path, room: int) -> None:
    log = LogWriter(tmp_path / "log", 1000)
    log.write(STDOUT, memoryview(b"kept\n"))  # 13 + 5 bytes
    with room_for(room):
        log.write(STDOUT, memoryview(b"lost\n" * 20))
    # There is room again, but what came behind a hole would be a lie.
    give(log, (STDOUT, b"after it\n" * 50), (STDERR, b"and more\n"))
    assert texts(tmp_path / "log") == [("stdout", "kept")]
    assert log.truncated


# --- taking it up again -----------------------------------------------------------------------------------

REPLAYED: Frames = [
    (STDOUT, b"one\n"),
    (STDERR, b"err one\n"),
    (STDOUT, b"two\nthr"),
    (STDERR, b"err two\n"),
    (STDOUT, b"ee\nno newline"),
]


def whole(frames: Frames, stream: int) -> bytes:
    return b"".join(data for found, data in frames if found == stream)


@pytest.mark.parametrize("cut", range(len(REPLAYED) + 1))
@pytest.mark.parametrize("half", [0, 1, 12, 13, 14])
def test_a_replay_goes_on_where_the_spool_broke_off(tmp_path: Path, cut: int, half: int) -> None:
    path = tmp_path / "log"
    written(path, *REPLAYED[:cut])
    if half:
        # The server was killed while it wrote a record.
        with path.open("ab") as file:
            file.write(struct.pack(">BQL", STDOUT, 1, 50)[:half] + b"z" * max(0, half - 13))
    log = LogWriter.resume(path, 1 << 20)
    # The engine cuts its replay as it likes.
    give(log, *((stream, bytes([byte])) for stream, data in REPLAYED for byte in data))
    for stream in (STDOUT, STDERR):
        assert whole(kept(path), stream) == whole(REPLAYED, stream)
    assert not log.truncated


def test_a_spool_that_is_not_there_is_begun(tmp_path: Path) -> None:
    give(LogWriter.resume(tmp_path / "log", 100), (STDOUT, b"x\n"))
    assert texts(tmp_path / "log") == [("stdout", "x")]


def test_taking_up_twice_adds_nothing_twice(tmp_path: Path) -> None:
    written(tmp_path / "log", *REPLAYED[:2])
    for _ in range(2):
        give(LogWriter.resume(tmp_path / "log", 1000), *REPLAYED)
    assert whole(kept(tmp_path / "log"), STDOUT) == whole(REPLAYED, STDOUT)


def test_the_cap_counts_what_was_there_before(tmp_path: Path) -> None:
    written(tmp_path / "log", (STDOUT, b"123456"), cap=8)
    log = LogWriter.resume(tmp_path / "log", 8)
    give(log, (STDOUT, b"123456789"))
    assert whole(kept(tmp_path / "log"), STDOUT) == b"12345678"
    assert log.truncated


def test_a_spool_that_is_full_needs_no_replay(tmp_path: Path) -> None:
    written(tmp_path / "log", (STDOUT, b"12345678"), cap=8)
    for cap, full in ((7, True), (8, True), (9, False), (0, False)):
        with closing(LogWriter.resume(tmp_path / "log", cap)) as log:
            assert log.truncated is full


@pytest.mark.parametrize("replayed", [b"123456", b"123456" + b"x" * 100])
def test_a_cap_that_was_lowered_meanwhile(tmp_path: Path, replayed: bytes) -> None:
    written(tmp_path / "log", (STDOUT, b"123456"))
    log = LogWriter.resume(tmp_path / "log", 3)
    give(log, (STDOUT, replayed), (STDERR, b"another stream"))
    assert kept(tmp_path / "log") == [(STDOUT, b"123456")]
    assert log.truncated


# --- the tail ---------------------------------------------------------------------------------------------


def tail_of(size: int, *output: tuple[int, bytes]) -> list[str]:
    tail = Tail(size)
    for stream, data in output:
        tail.write(stream, memoryview(data))
    return tail.lines()


def test_a_tail_has_the_last_bytes_of_all() -> None:
    output = [(STDOUT, b"first\n"), (STDERR, b"second\n"), (STDOUT, b"third")]
    assert tail_of(100, *output) == ["first", "second", "third"]
    assert tail_of(12, *output) == ["second", "third"]
    assert tail_of(8, *output) == ["nd", "third"]
    assert tail_of(3, *output) == ["ird"]
    assert tail_of(8, (STDOUT, b"x" * 1000)) == ["x" * 8]
    assert tail_of(8) == []


@given(
    size=st.integers(1, 40),
    output=st.lists(st.tuples(st.just(STDOUT), st.binary(max_size=30)), max_size=8),
)
def test_a_tail_of_one_stream_is_its_end(size: int, output: Frames) -> None:
    end = whole(output, STDOUT)[-size:]
    expected = end.removesuffix(b"\n").split(b"\n") if end else []
    assert tail_of(size, *output) == [line.decode("utf-8", "replace") for line in expected]


# --- lines ------------------------------------------------------------------------------------------------


def test_lines_go_across_chunks_and_streams_stay_apart(tmp_path: Path) -> None:
    written(
        tmp_path / "log",
        (STDOUT, b"fi"),
        (STDERR, b"an er"),
        (STDOUT, b"rst\nsecond"),
        (STDERR, b"ror\n"),
        (STDOUT, b"\n\n"),
    )
    assert texts(tmp_path / "log") == [
        ("stdout", "first"),
        ("stderr", "an error"),
        ("stdout", "second"),
        ("stdout", ""),
    ]


def test_a_last_line_without_newline_counts_once_it_has_ended(tmp_path: Path) -> None:
    written(tmp_path / "log", (STDOUT, b"whole\npart"), (STDERR, b"rest"))
    assert texts(tmp_path / "log", ended=False) == [("stdout", "whole")]
    assert texts(tmp_path / "log") == [("stdout", "whole"), ("stdout", "part"), ("stderr", "rest")]


def test_lines_are_counted_over_both_streams(tmp_path: Path) -> None:
    written(tmp_path / "log", (STDOUT, b"a\nb\n"), (STDERR, b"c\n"), (STDOUT, b"d"))
    assert [line.seq for line in read_log(tmp_path / "log")] == [0, 1, 2, 3]


def test_a_line_has_the_time_of_its_end() -> None:
    lines = LineAssembler()
    assert list(lines.feed(STDOUT, 1000, b"begun")) == []
    assert list(lines.feed(STDERR, 1500, b"other\n")) == [OutputLine(0, 1500, "stderr", "other")]
    assert list(lines.feed(STDOUT, 2000, b" ended\nrest")) == [OutputLine(1, 2000, "stdout", "begun ended")]
    assert list(lines.end()) == [OutputLine(2, 2000, "stdout", "rest")]
    assert list(lines.end()) == []


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"caf\xc3", "caf\ufffd"),
        (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd"),
        (b"nul\0byte", "nul\0byte"),
        (b"carriage\r", "carriage\r"),
        ("ünï \U0001f600".encode(), "ünï \U0001f600"),
        (b"", ""),
    ],
)
def test_bytes_of_any_kind_become_text(tmp_path: Path, data: bytes, text: str) -> None:
    written(tmp_path / "log", (STDOUT, data + b"\n"))
    assert texts(tmp_path / "log") == [("stdout", text)]
    text.encode()


def test_a_character_cut_between_two_chunks_is_whole(tmp_path: Path) -> None:
    character = "\U0001f600".encode()
    written(
        tmp_path / "log", *((STDOUT, bytes([byte])) for byte in character), (STDERR, b"x"), (STDOUT, b"\n")
    )
    assert texts(tmp_path / "log") == [("stdout", "\U0001f600"), ("stderr", "x")]


def test_a_missing_spool_has_no_lines(tmp_path: Path) -> None:
    assert list(read_log(tmp_path / "none")) == []


def test_a_reader_that_stops_early_closes_the_spool(tmp_path: Path) -> None:
    written(tmp_path / "log", (STDOUT, b"a\nb\nc\n"))
    lines = read_log(tmp_path / "log")
    assert next(lines).text == "a"
    lines.close()  # type: ignore[attr-defined]
    assert str(tmp_path / "log") not in {
        os.readlink(f"/proc/self/fd/{number}")
        for number in os.listdir("/proc/self/fd")
        if os.path.islink(f"/proc/self/fd/{number}")
    }


@given(
    output=st.lists(
        st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(max_size=30) | st.just(b"\n")), max_size=12
    )
)
def test_lines_joined_again_are_the_output(tmp_path_factory: pytest.TempPathFactory, output: Frames) -> None:
    path = tmp_path_factory.mktemp("spool") / "log"
    written(path, *output)
    lines = list(read_log(path))
    for stream, name in ((STDOUT, "stdout"), (STDERR, "stderr")):
        data = whole(output, stream)
        expected = data.removesuffix(b"\n").split(b"\n") if data else []
        found = [line.text for line in lines if line.stream == name]
        assert found == [line.decode("utf-8", "replace") for line in expected]


@given(
    output=st.lists(
        st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(max_size=30) | st.just(b"\n")), max_size=12
    ),
    most=st.integers(1, 60),
)
def test_reading_on_from_any_place_gives_the_same_lines(
    tmp_path_factory: pytest.TempPathFactory, output: Frames, most: int
) -> None:
    path = tmp_path_factory.mktemp("spool") / "log"
    log = LogWriter(path, 1 << 20)
    found, at = [], START
    for stream, data in output:
        log.write(stream, memoryview(data))
        while (piece := read_on(path, at, most))[1] != at:
            found += piece[0]
            at = piece[1]
    log.close()
    rest, end = last_lines(at)
    expected = list(read_log(path))
    assert [*found, *rest] == expected
    assert end.seq == len(expected)


def test_who_wrote_is_told_of_what_was_kept(tmp_path: Path) -> None:
    seen: list[int] = []
    path = tmp_path / "log"
    log = LogWriter(path, 4, lambda: seen.append(path.stat().st_size))
    give(log, (STDOUT, b"abc"), (STDOUT, b""), (STDOUT, b"def"), (STDOUT, b"ghi"))
    log = LogWriter.resume(path, 10, lambda: seen.append(path.stat().st_size))
    give(log, (STDOUT, b"abcd"), (STDOUT, b"efg"))
    assert seen == [16, 30, 46]


def test_reading_on_where_there_is_nothing(tmp_path: Path) -> None:
    assert read_on(tmp_path / "none", START) == ([], START)


def test_output_byte_by_byte_does_not_make_the_spool_many_times_its_cap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("light_run.engine.output.spool._LEAST_OVERHEAD", 0)
    cap = 100 * RECORD.size
    log = written(tmp_path / "log", *[(STDOUT, b".")] * 101, cap=cap)
    assert log.truncated
    assert len(kept(tmp_path / "log")) == 100
    again = LogWriter.resume(tmp_path / "log", cap)
    give(again, *[(STDOUT, b".")] * 101)
    assert again.truncated
    assert len(kept(tmp_path / "log")) == 100

"""Archives as an engine gives them, as it never would, and as nobody would."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from light_run.engine.files.extract import ArtifactFolder, ExtractError
from light_run.engine.files.untar import from_tar
from tests.unit.engine.trees import SECRET, Chunks, assert_told_truly, content_of

MIB = 1024 * 1024
CAP = 64 * 1024
ENTRIES = 200

REGULAR, DIRECTORY, HARD, LINK, FIFO, SPARSE = (
    tarfile.REGTYPE,
    tarfile.DIRTYPE,
    tarfile.LNKTYPE,
    tarfile.SYMTYPE,
    tarfile.FIFOTYPE,
    tarfile.GNUTYPE_SPARSE,
)

Member = tuple[str, bytes, bytes | str]


def member(name: str, kind: bytes = REGULAR, content: bytes | str = b"") -> tuple[tarfile.TarInfo, bytes]:
    """A member called `name`; `content` is its bytes, or what it links to."""
    info = tarfile.TarInfo(name)
    info.type = kind
    if isinstance(content, str):
        info.linkname, content = content, b""
    info.size = len(content)
    return info, content


def archive(*members: Member, form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar of `members`: (name, type, content or link target)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for one in members:
            info, content = member(*one)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def take(data: bytes, into: ArtifactFolder, size: int = 65536) -> bool:
    """Extract `data`, which comes in pieces of `size`."""
    return from_tar(cast("Iterator[bytes]", Chunks(data, size)), into)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "above" / "artifacts"


@pytest.fixture
def into(folder: Path) -> Iterator[ArtifactFolder]:
    """The artifact folder, in which nothing is but what is told, when the test is over."""
    into = ArtifactFolder(folder, CAP, ENTRIES)
    yield into
    if folder.exists():
        assert_told_truly(folder, into)


# --- as the engine names things ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ("/tmp/d", ("d/", "d/e/", "d/e/f", "d/g")),
        ("/tmp/d/.", ("./", "./e/", "./e/f", "./g")),
        ("/", ("/", "/e/", "/e/f", "/g")),
        ("/ as it is named elsewhere", ("", "e", "e/f", "g")),
    ],
)
def test_a_directory(folder: Path, into: ArtifactFolder, asked: str, names: tuple[str, ...]) -> None:
    data = archive(
        (names[0], DIRECTORY, b""),
        (names[1], DIRECTORY, b""),
        (names[2], REGULAR, b"f"),
        (names[3], REGULAR, b"g"),
    )
    assert take(data, into)
    assert content_of(folder) == {b"e": None, b"e/f": b"f", b"g": b"g"}


def test_a_file(folder: Path, into: ArtifactFolder) -> None:
    assert take(archive(("f.txt", REGULAR, b"content")), into)
    assert content_of(folder) == {b"f.txt": b"content"}


def test_an_empty_directory(into: ArtifactFolder) -> None:
    assert take(archive(("d", DIRECTORY, b"")), into)
    assert into.artifacts == ()


@pytest.mark.parametrize("kind", [LINK, FIFO, tarfile.CHRTYPE, tarfile.BLKTYPE, HARD])
def test_what_is_neither_file_nor_directory(into: ArtifactFolder, kind: bytes) -> None:
    assert not take(archive(("d", kind, "/etc/passwd")), into)
    assert into.artifacts == ()


def test_an_empty_archive_holds_nothing(into: ArtifactFolder) -> None:
    assert not take(archive(), into)


def test_a_parent_that_was_left_out_is_made(folder: Path, into: ArtifactFolder) -> None:
    assert take(archive(("d", DIRECTORY, b""), ("d/e/f/g", REGULAR, b"x")), into)
    assert content_of(folder) == {b"e": None, b"e/f": None, b"e/f/g": b"x"}


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("size", [1, 7, 511, 512, 513, 100_000])
def test_in_any_pieces_and_forms(folder: Path, into: ArtifactFolder, form: int, size: int) -> None:
    long = "/".join(["n" * 60] * 3) if form != tarfile.USTAR_FORMAT else "n" * 60
    data = archive(
        ("d", DIRECTORY, b""),
        (f"d/{long}", REGULAR, b"1" * 1000),
        ("d/ünï", REGULAR, b"2" * 512),
        form=form,
    )
    assert take(data, into, size)
    found = {path: data for path, data in content_of(folder).items() if data is not None}
    assert found == {long.encode(): b"1" * 1000, "ünï".encode(): b"2" * 512}


# --- hard links -------------------------------------------------------------------------------------------


def test_the_second_name_of_a_file_is_a_hard_link(folder: Path, into: ArtifactFolder) -> None:
    data = archive(
        ("d", DIRECTORY, b""),
        ("d/one", REGULAR, b"same"),
        ("d/e", DIRECTORY, b""),
        ("d/e/two", HARD, "d/one"),
    )
    assert take(data, into)
    assert content_of(folder) == {b"one": b"same", b"e": None, b"e/two": b"same"}
    assert (folder / "one").samefile(folder / "e" / "two")
    # It counts once, and is as large by both names.
    assert into.entry_bytes == 4
    assert [each.bytes for each in into.artifacts if each.type == "file"] == [4, 4]


def test_the_second_name_of_a_file_in_the_root(folder: Path, into: ArtifactFolder) -> None:
    data = archive(("/", DIRECTORY, b""), ("/one", REGULAR, b"same"), ("/two", HARD, "/one"))
    assert take(data, into)
    assert content_of(folder) == {b"one": b"same", b"two": b"same"}


@pytest.mark.parametrize("target", ["/etc/passwd", "d/later", "d/sub", "d/self", "d", "", "other/one", "one"])
def test_a_hard_link_to_what_has_not_come_out_is_nothing(
    folder: Path, into: ArtifactFolder, target: str
) -> None:
    data = archive(
        ("d", DIRECTORY, b""),
        ("d/sub", DIRECTORY, b""),
        ("d/self", HARD, target),
        ("d/later", REGULAR, b"later"),
    )
    take(data, into)
    assert content_of(folder) == {b"sub": None, b"later": b"later"}


def test_a_hard_link_to_above_is_refused(into: ArtifactFolder) -> None:
    data = archive(("d", DIRECTORY, b""), ("d/x", HARD, "d/../../../etc/passwd"))
    with pytest.raises(ExtractError, match="leaves"):
        take(data, into)


def test_links_count_as_names_and_not_as_bytes(folder: Path) -> None:
    links: list[Member] = [(f"d/l{number}", HARD, "d/f") for number in range(50)]
    data = archive(("d", DIRECTORY, b""), ("d/f", REGULAR, b"x" * 300), *links)
    into = ArtifactFolder(folder, 1000, 40)
    with pytest.raises(ExtractError, match="40 files"):
        take(data, into)
    assert (into.entry_bytes, len(into.artifacts)) == (300, 40)
    assert_told_truly(folder, into)


# --- names that lead elsewhere ----------------------------------------------------------------------------

ABOVE = ["..", "../x", "d/..", "d/../../x", "d/e/../../../x", "/..", "/../x", "d/../x"]


@pytest.mark.parametrize("kind", [REGULAR, DIRECTORY])
@pytest.mark.parametrize("name", ABOVE)
@pytest.mark.parametrize("first", [True, False])
def test_a_name_with_two_dots_is_refused(into: ArtifactFolder, name: str, kind: bytes, first: bool) -> None:
    before: list[Member] = [] if first else [("d", DIRECTORY, b"")]
    with pytest.raises(ExtractError, match="leaves"):
        take(archive(*before, (name, kind, b"x" if kind == REGULAR else b"")), into)
    assert into.artifacts == ()


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "//etc/passwd", "/d/f", "./f", "d//f", "d/./f", "d/f/", "d/...", "d/..f", "d/f.."]
)
def test_every_other_name_stays_in_the_folder(folder: Path, into: ArtifactFolder, name: str) -> None:
    take(archive(("d", DIRECTORY, b""), (name, REGULAR, b"x")), into)
    found = {path: data for path, data in content_of(folder.parent).items() if data is not None}
    assert all(path.startswith(b"artifacts/") for path in found)
    assert set(found.values()) == ({b"x"} if name != "./f" else set())


def test_a_name_with_a_nul(into: ArtifactFolder) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info, content = member("d/x", REGULAR, b"x")
        info.pax_headers = {"path": "d/a\0b"}
        tar.addfile(info, io.BytesIO(content))
    with pytest.raises(ExtractError):
        take(buffer.getvalue(), into)


def test_a_link_in_the_archive_never_becomes_one(folder: Path, into: ArtifactFolder, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    data = archive(
        ("d", DIRECTORY, b""),
        ("d/link", LINK, str(tmp_path / "outside")),
        ("d/link/written", REGULAR, b"x"),
        ("d/f", LINK, str(tmp_path / "outside" / "f")),
        ("d/f", REGULAR, b"y"),
    )
    take(data, into)
    assert content_of(folder) == {b"link": None, b"link/written": b"x", b"f": b"y"}
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_name_twice_is_the_later_one(folder: Path, into: ArtifactFolder) -> None:
    take(archive(("d", DIRECTORY, b""), ("d/f", REGULAR, b"first one"), ("d/f", REGULAR, b"second")), into)
    assert content_of(folder) == {b"f": b"second"}


@pytest.mark.parametrize(
    "members",
    [
        [("d/x", REGULAR, b"x"), ("d/x", DIRECTORY, b"")],
        [("d/x", DIRECTORY, b""), ("d/x", REGULAR, b"x")],
        [("d/x", REGULAR, b"x"), ("d/x/y", REGULAR, b"y")],
        [("d/x/y", REGULAR, b"y"), ("d/x", REGULAR, b"x")],
        [("d/x", REGULAR, b"x"), ("d/x/y/z", DIRECTORY, b"")],
    ],
)
def test_a_file_and_a_directory_of_one_name(
    folder: Path, into: ArtifactFolder, members: list[Member]
) -> None:
    with pytest.raises(OSError, match="directory"):
        take(archive(("d", DIRECTORY, b""), *members), into)
    # The first one stays as it was.
    assert content_of(folder) in ({b"x": b"x"}, {b"x": None}, {b"x": None, b"x/y": b"y"})


# --- broken, and too much ---------------------------------------------------------------------------------

WHOLE = archive(
    ("d", DIRECTORY, b""),
    ("d/one", REGULAR, b"1" * 700),
    ("d/sub", DIRECTORY, b""),
    ("d/sub/" + "n" * 120, REGULAR, b"2" * 1024),
)


def test_an_archive_that_breaks_off_anywhere(tmp_path: Path) -> None:
    for cut in range(0, len(WHOLE), 61):
        into = ArtifactFolder(tmp_path / f"{cut}", CAP, ENTRIES)
        try:
            take(WHOLE[:cut], into)
        except ExtractError as error:
            assert "broken" in str(error)  # noqa: PT017 - between two members nothing is amiss
        if (tmp_path / f"{cut}").exists():
            assert_told_truly(tmp_path / f"{cut}", into)
            found = content_of(tmp_path / f"{cut}")
            assert set(found.values()) <= {None, b"1" * 700, b"2" * 1024}


def test_a_file_cut_short_is_no_artifact(folder: Path, into: ArtifactFolder) -> None:
    with pytest.raises(ExtractError, match="broken"):
        take(archive(("f", REGULAR, b"x" * 5000))[:3000], into)
    assert content_of(folder) == {}


@pytest.mark.parametrize(
    "field", [b"\x80" + b"\x7f" * 11, b"\xff" * 12, b"\x80" + b"\0" * 7 + b"\x7f\0\0\0", b"77777777777\0"]
)
def test_a_size_that_is_not_true(folder: Path, into: ArtifactFolder, field: bytes) -> None:
    header = bytearray(archive(("f", REGULAR, b"x"))[:512])
    header[124:136] = field
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(ExtractError):
        take(bytes(header) + b"x" * 1024, into)
    assert not folder.exists() or content_of(folder) == {}


@pytest.mark.parametrize(("name", "kind"), [("d/x", b"Z"), ("d", b"M"), (".", REGULAR), ("", REGULAR)])
def test_the_end_of_a_member_is_not_looked_for_forever(into: ArtifactFolder, name: str, kind: bytes) -> None:
    info, _ = member(name, kind)
    info.size = 1 << 62
    with pytest.raises(ExtractError):
        take(info.tobuf(tarfile.GNU_FORMAT) + bytes(2048), into)


def test_headers_piled_up(into: ArtifactFolder) -> None:
    # Each extended header is read by a call inside the last one's.
    pax = archive(("x", REGULAR, b"")).ljust(1024, b"\0")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info, _ = member("n" * 300)
        tar.addfile(info)
    extended = buffer.getvalue()[:1024]
    with pytest.raises(ExtractError):
        take(extended * 5000 + pax, into)


def test_a_sparse_member_is_held_to_the_cap(folder: Path, into: ArtifactFolder) -> None:
    # An old GNU sparse header: one piece of data at the end of what says it is 1 TiB.
    info, _ = member("f", SPARSE)
    info.size = 512
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT)[:512])
    header[156:157] = SPARSE
    header[386:398] = b"%011o\0" % 0
    header[398:410] = b"%011o\0" % 512
    header[483:495] = b"\x80" + (1 << 40).to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(ExtractError, match="larger"):
        take(bytes(header) + b"x" * 512 + bytes(1024), into)
    assert into.artifacts == ()


def test_what_lies_beyond_the_cap_is_not_waited_for(into: ArtifactFolder) -> None:
    # A 5 GB file begins; none of its content has to come before it is refused.
    info, _ = member("f")
    info.size = 5 * 1024 * MIB
    header = info.tobuf(tarfile.PAX_FORMAT)
    chunks = iter([header, bytes(20_000)])
    with pytest.raises(ExtractError, match="larger"):
        from_tar(chunks, into)


def test_members_are_forgotten_as_they_pass(folder: Path) -> None:
    # A million of them must not cost memory. Links alone: none is an artifact, all are read.
    into = ArtifactFolder(folder, CAP, 3000)
    header = member("d/l", LINK, "target")[0].tobuf(tarfile.PAX_FORMAT)
    # Those of other tests, archives and their members in circles, do not count.
    gc.collect()
    alive = 0

    def pieces() -> Iterator[bytes]:
        nonlocal alive
        yield header * 3000
        alive = sum(isinstance(one, tarfile.TarInfo) for one in gc.get_objects())

    assert not from_tar(pieces(), into)
    assert 0 < alive < 10


# --- fuzz -------------------------------------------------------------------------------------------------

FUZZ = settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def survive(data: bytes, size: int = 65536) -> None:
    """Extract `data` and fail where anything but what is told reaches the disk, or anything else is raised."""
    with tempfile.TemporaryDirectory() as name:
        outside = Path(name)
        (outside / "secret").write_bytes(SECRET)
        (outside / "above").mkdir()
        folder = outside / "above" / "artifacts"
        into = ArtifactFolder(folder, CAP, ENTRIES)
        before = sorted(os.listdir("/proc/self/fd"))
        with contextlib.suppress(ExtractError, OSError):
            take(data, into, size)
        assert sorted(os.listdir("/proc/self/fd")) == before
        assert sorted(os.listdir(outside)) == ["above", "secret"]
        assert os.listdir(outside / "above") in ([], ["artifacts"])
        assert (outside / "secret").read_bytes() == SECRET
        if folder.exists():
            assert_told_truly(folder, into)
        assert sum(one.bytes for one in into.artifacts) <= CAP
        assert len(into.artifacts) <= ENTRIES


@FUZZ
@given(data=st.binary(max_size=4096), size=st.sampled_from([1, 100, 512, 65536]))
def test_random_bytes(data: bytes, size: int) -> None:
    survive(data, size)


INSIDE = ["d", "d/", "d/a", "d/a/b", "d/b", "/d", ".", "./", "/", "", "a\\b", "-rf", "d/\n", "d/\udcff"]
OUTSIDE = ["..", "d/../a", "/etc/passwd", "d/../../secret", "../../secret"]
LONG = ["d/" + "n" * 300, "d/" + "x/" * 120 + "f"]
NAMES = st.one_of(
    st.sampled_from([*INSIDE, *OUTSIDE, *LONG]),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12),
)
DEVICES = [tarfile.CHRTYPE, tarfile.BLKTYPE]
RARE = [tarfile.AREGTYPE, tarfile.CONTTYPE, b"Z", b"L", b"x", b"g", b"V"]
KINDS = st.sampled_from([REGULAR, REGULAR, DIRECTORY, HARD, LINK, FIFO, SPARSE, *DEVICES, *RARE])


@st.composite
def archives(draw: st.DrawFn) -> bytes:
    """Tars whose members say what they like."""
    buffer = io.BytesIO()
    form: Literal[1, 2] = draw(st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
    for _ in range(draw(st.integers(0, 8))):
        info = tarfile.TarInfo(draw(NAMES))
        info.linkname = draw(NAMES)
        info.type = draw(KINDS)
        content = draw(st.binary(max_size=700))
        info.size = draw(st.one_of(st.just(len(content)), st.integers(0, 1 << 62), st.just(CAP)))
        if draw(st.booleans()):
            headers: dict[str, Any] = {
                draw(
                    st.sampled_from(["path", "linkpath", "size", "GNU.sparse.size", "hdrcharset", "mtime"])
                ): (draw(st.one_of(NAMES, st.sampled_from(["-1", "0", "99", "1e9", "BINARY", "9" * 30]))))
            }
            info.pax_headers = headers
        try:
            buffer.write(info.tobuf(form))
        except (ValueError, UnicodeError):
            continue
        buffer.write(content + bytes(-len(content) % 512))
    return buffer.getvalue() + bytes(draw(st.sampled_from([0, 512, 1024])))


@FUZZ
@given(data=archives(), size=st.sampled_from([100, 65536]))
def test_random_members(data: bytes, size: int) -> None:
    survive(data, size)


@FUZZ
@given(data=st.data())
def test_mutated_archives(data: st.DataObject) -> None:
    mutated = bytearray(
        data.draw(st.sampled_from([WHOLE, WHOLE[1024:], archive(("f", REGULAR, b"x" * 600))]))
    )
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(mutated) - 1))
        what = data.draw(st.sampled_from(["byte", "cut", "double", "field"]))
        if what == "byte":
            mutated[position] = data.draw(st.integers(0, 255))
        elif what == "cut":
            del mutated[position : position + data.draw(st.integers(1, 600))]
            mutated += b"\0"
        elif what == "double":
            mutated[position:position] = mutated[position : position + 512]
        else:
            # A header that adds up, whatever is in it.
            begin = position // 512 * 512
            field = data.draw(
                st.sampled_from([(0, 100), (100, 8), (124, 12), (156, 1), (157, 100), (345, 155)])
            )
            value = data.draw(st.binary(min_size=field[1], max_size=field[1]))
            if len(mutated) >= begin + 512:
                mutated[begin + field[0] : begin + sum(field)] = value
                mutated[begin + 148 : begin + 156] = b" " * 8
                mutated[begin + 148 : begin + 156] = b"%06o\0 " % sum(mutated[begin : begin + 512])
    survive(bytes(mutated))

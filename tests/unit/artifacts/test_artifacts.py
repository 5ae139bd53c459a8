"""The artifact store: hostile paths, hostile trees, and what it lists, opens and removes."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from light_run.artifacts.paths import printable, segments
from light_run.artifacts.store import TRASH, ArtifactStore, OpenFile
from light_run.errors import ArtifactNotFound, InvalidPath
from light_run.system.removal import remove_tree

RUN = "4f3c2f5e-0c5f-4b6f-9d55-0d6d3f0f8a11"


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    store = ArtifactStore(tmp_path / "artifacts")
    folder = store.folder(RUN)
    (folder / "sub" / "deep").mkdir(parents=True)
    (folder / "b.txt").write_bytes(b"bytes")
    (folder / "sub" / "a.txt").write_bytes(b"a")
    return store


def read(store: ArtifactStore, path: str) -> bytes:
    found = store.open(RUN, path)
    assert isinstance(found, OpenFile)
    with found.handle:
        return found.handle.read()


@pytest.mark.parametrize(
    "path",
    [
        "..",
        "../x",
        "a/..",
        "a/../b",
        "a/../../b",
        "/etc/passwd",
        "//etc/passwd",
        "\\etc\\passwd",
        "..\\x",
        "a\\..\\b",
        "a/..\\b",
        "C:\\x",
        "c:/x",
        "a\0b",
        "%2e%2e/x",
        "%2E%2e%2Fx",
        "..%2fx",
        "a%2f..%2fb",
        "..%5cx",
        "%252e%252e",
        "%25252e%25252e/x",
        "%00",
        "%2fetc",
        "%252525252525252e",
    ],
)
def test_a_path_that_leads_out_is_refused(store: ArtifactStore, path: str) -> None:
    with pytest.raises(InvalidPath):
        store.open(RUN, path)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", ()),
        (".", ()),
        ("a", ("a",)),
        ("a/b/", ("a", "b")),
        ("./a//b/.", ("a", "b")),
        ("...", ("...",)),
        ("..a", ("..a",)),
        ("a..b", ("a..b",)),
        ("a\\b", ("a\\b",)),
        ("100%", ("100%",)),
        ("-rf", ("-rf",)),
        ("a\nb", ("a\nb",)),
    ],
)
def test_a_harmless_path_is_taken_by_its_segments(path: str, expected: tuple[str, ...]) -> None:
    assert segments(path) == expected


@pytest.mark.parametrize("run_id", ["", ".", "..", "../x", "a/b", ".trash", "a\0"])
def test_what_is_no_run_id_names_no_folder(store: ArtifactStore, run_id: str) -> None:
    with pytest.raises(InvalidPath):
        store.folder(run_id)


def test_everything_is_listed_with_its_size_and_sorted(store: ArtifactStore) -> None:
    assert [(entry.path, entry.bytes, entry.type) for entry in store.list(RUN)] == [
        ("b.txt", 5, "file"),
        ("sub", 0, "directory"),
        ("sub/a.txt", 1, "file"),
        ("sub/deep", 0, "directory"),
    ]
    assert store.usage(RUN).files == 4


def test_a_run_that_left_nothing_lists_nothing(store: ArtifactStore) -> None:
    assert store.list("other") == ()
    with pytest.raises(ArtifactNotFound):
        store.open("other", "")


def test_a_file_is_opened_and_a_directory_gives_its_own_entries(store: ArtifactStore) -> None:
    found = store.open(RUN, "sub/a.txt")
    assert isinstance(found, OpenFile)
    with found.handle:
        assert (found.name, found.bytes, found.handle.read()) == ("a.txt", 1, b"a")
    assert found.location == f"{RUN}/sub/a.txt"
    entries = store.open(RUN, "sub/")
    assert not isinstance(entries, OpenFile)
    assert [(entry.path, entry.type) for entry in entries] == [("a.txt", "file"), ("deep", "directory")]


def test_an_etag_is_another_one_for_other_bytes(store: ArtifactStore) -> None:
    file = store.folder(RUN) / "b.txt"
    etags = set()
    for content, time in ((b"bytes", 1), (b"bytes", 2), (b"more bytes", 2)):
        file.write_bytes(content)
        os.utime(file, ns=(time, time))
        found = store.open(RUN, "b.txt")
        assert isinstance(found, OpenFile)
        found.handle.close()
        etags.add(found.etag)
    assert len(etags) == 3


@pytest.mark.parametrize("path", ["nothing", "b.txt/x", "sub/nothing", "x" * 300, "x/" * 3000, "\ud800"])
def test_what_is_not_there_is_not_found(store: ArtifactStore, path: str) -> None:
    with pytest.raises(ArtifactNotFound):
        store.open(RUN, path)


def test_links_and_special_files_are_neither_listed_nor_opened(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("secret")
    folder = store.folder(RUN)
    before = store.list(RUN)
    (folder / "file-link").symlink_to(secret / "key")
    (folder / "folder-link").symlink_to(secret)
    (folder / "sub" / "up").symlink_to("..")
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as unix:
        # The absolute path is longer than such an address may be.
        monkeypatch.chdir(folder)
        unix.bind("socket")
    assert store.list(RUN) == before
    for path in ("file-link", "folder-link", "folder-link/key", "sub/up/b.txt", "pipe", "socket"):
        with pytest.raises(ArtifactNotFound):
            store.open(RUN, path)


def test_a_run_folder_that_is_a_link_is_not_followed(store: ArtifactStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "key").write_text("secret")
    (store.root / "linked").symlink_to(outside)
    assert store.list("linked") == ()
    assert "linked" not in store.run_ids()
    with pytest.raises(ArtifactNotFound):
        store.open("linked", "key")
    store.remove("linked")
    assert (outside / "key").exists()
    assert not (store.root / "linked").is_symlink()


def test_a_name_that_is_not_utf8_is_listed_and_opened_in_every_spelling(store: ArtifactStore) -> None:
    folder = os.fsencode(store.folder(RUN))
    os.mkdir(folder + b"/d\xfe")
    with open(folder + b"/d\xfe/caf\xe9", "wb") as file:
        file.write(b"latin")
    listed = [entry.path for entry in store.list(RUN) if "caf" in entry.path]
    assert listed == ["d%FE/caf%E9"]
    assert read(store, listed[0]) == b"latin"
    assert read(store, os.fsdecode(b"d\xfe/caf\xe9")) == b"latin"


def test_a_literal_percent_name_comes_before_what_it_would_decode_to(store: ArtifactStore) -> None:
    folder = store.folder(RUN)
    (folder / "a%41").write_text("literal")
    (folder / "aA").write_text("decoded")
    assert read(store, "a%41") == b"literal"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("plain", "plain"), ("grün", "grün"), ("a\udcff\udcfeb", "a%FF%FEb"), ("\udcc3ü", "%C3ü")],
)
def test_a_name_is_printed_fit_for_json(name: str, expected: str) -> None:
    assert printable(name) == expected
    expected.encode("utf-8")


ALIKE = [
    b"\xfe",
    b"%FE",
    b"%fe",
    b"%25FE",
    b"\xfe%FE",
    b"%FE\xfe",
    b"%41",
    b"100%",
    b"a%2Fb",
    b"\xc3\xa4%FE",
]


def test_no_two_names_are_listed_alike_and_each_is_opened_as_listed(store: ArtifactStore) -> None:
    for folder in (b"", *ALIKE):
        below = os.path.join(os.fsencode(store.folder(RUN)), b"below-" + folder)
        os.mkdir(below)
        for name in ALIKE:
            with open(os.path.join(below, name), "wb") as file:
                file.write(folder + b"/" + name)
    listed = [
        entry.path for entry in store.list(RUN) if entry.type == "file" and entry.path.startswith("below-")
    ]
    assert len(set(listed)) == len(listed) == len(ALIKE) * (len(ALIKE) + 1)
    contents = set()
    for path in listed:
        found = store.open(RUN, path)
        assert isinstance(found, OpenFile)
        with found.handle as handle:
            contents.add(handle.read())
    assert len(contents) == len(listed)


def test_a_removed_folder_is_gone_with_all_its_odd_modes(store: ArtifactStore) -> None:
    folder = store.folder(RUN)
    os.chmod(folder / "sub" / "a.txt", 0)
    os.chmod(folder / "sub" / "deep", 0)
    os.chmod(folder / "sub", 0o111)
    os.chmod(folder, 0)
    store.remove(RUN)
    assert not folder.exists()
    assert list((store.root / ".trash").iterdir()) == []
    store.remove(RUN)


def test_a_tree_deeper_than_any_path_is_removed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    current = os.open(root, os.O_RDONLY)
    for depth in range(1500):
        os.mkdir("deeper" * 10, dir_fd=current)
        child = os.open("deeper" * 10, os.O_RDONLY, dir_fd=current)
        os.close(os.open(f"file{depth}", os.O_CREAT | os.O_WRONLY, dir_fd=current))
        os.close(current)
        current = child
    os.close(current)
    remove_tree(root)
    assert not root.exists()


def test_removing_follows_no_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").write_text("x")
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "link").symlink_to(outside)
    (root / "sub" / "link").symlink_to(outside)
    remove_tree(root)
    assert not root.exists()
    assert (outside / "keep").exists()


def test_trash_that_an_earlier_server_left_is_emptied(store: ArtifactStore) -> None:
    assert store.discard(RUN)
    assert store.list(RUN) == ()
    assert len(list((store.root / ".trash").iterdir())) == 1
    store.empty_trash()
    assert list((store.root / ".trash").iterdir()) == []


def test_one_that_is_removed_while_the_trash_is_emptied(store: ArtifactStore) -> None:
    stop = threading.Event()

    def empty() -> None:
        while not stop.is_set():
            store.empty_trash()

    emptier = threading.Thread(target=empty)
    emptier.start()
    try:
        for number in range(30):
            for folder in range(40):
                (store.root / f"r{number}" / f"{folder}" / "a" / "b").mkdir(parents=True)
            store.remove(f"r{number}")
    finally:
        stop.set()
        emptier.join()
    store.empty_trash()
    assert list((store.root / TRASH).iterdir()) == []


def test_folders_of_an_earlier_server_are_found_and_nothing_else(store: ArtifactStore) -> None:
    (store.root / "a file").write_text("x")
    (store.root / ".pending-x").mkdir()
    (store.root / "an older one").mkdir()
    os.utime(store.root / "an older one", (5, 5))
    found = store.run_ids()
    assert set(found) == {RUN, "an older one"}
    assert found["an older one"] == 5


def test_folders_that_go_while_they_are_listed(store: ArtifactStore) -> None:
    stop = threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            (store.root / "brief").mkdir()
            (store.root / "brief").rmdir()

    other = threading.Thread(target=come_and_go)
    other.start()
    try:
        assert all(RUN in store.run_ids() for _ in range(3000))
    finally:
        stop.set()
        other.join()

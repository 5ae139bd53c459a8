"""Patterns among the paths to extract, by both ways: a mounted folder and the engine's archive."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from light_run.engine.files import collect
from light_run.engine.files.globs import NameBudget, Pattern
from light_run.engine.spec import ExtractResult
from tests.unit.engine.files.test_collect import Scene
from tests.unit.engine.trees import SECRET, content_of

TREE = {
    "out/a.png": b"1",
    "out/b.png": b"22",
    "out/c.txt": b"333",
    "out/.hidden.png": b"4444",
    "out/deep/d.png": b"55555",
    "out/deep/er/e.png": b"666666",
    "out/.git/f.png": b"7777777",
    "out/[x].png": b"88888888",
    "dist-1/bin/tool": b"9",
    "dist-2/bin/tool": b"10",
}


@pytest.fixture(params=[True, False], ids=["mounted", "archive"])
def mounted(request: pytest.FixtureRequest) -> bool:
    """Both ways, one after the other."""
    return bool(request.param)


@pytest.fixture
def scene(tmp_path: Path, mounted: bool) -> Scene:
    """A container with the same tree at its workdir, whichever way it is looked at."""
    scene = Scene(tmp_path)
    if not mounted:
        scene.workspace.files = scene.root / "app"
    for path, content in TREE.items():
        file = scene.workspace.files / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    (tmp_path / "secret").write_bytes(SECRET)
    return scene


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("/app/out/*.png", {"a.png", "b.png", "[x].png"}),
        ("out/?.png", {"a.png", "b.png"}),
        ("out/[ac]*", {"a.png", "c.txt"}),
        ("out/[!ac].*", {"b.png"}),
        ("out/[^ac].*", {"b.png"}),
        ("out/.*.png", {".hidden.png"}),
        ("out/[x].png", {"[x].png"}),
        ("out/d*", {"deep", "deep/d.png", "deep/er", "deep/er/e.png"}),
        ("out/*/*.png", {"d.png"}),
        ("out/**/*.png", {"a.png", "b.png", "[x].png", "d.png", "e.png"}),
        ("**/e.*", {"e.png"}),
        ("out/deep/**", {"d.png", "er", "er/e.png"}),
        ("out/**/**/er/**", {"e.png"}),
        ("*/bin/tool", {"tool"}),
        (
            "dist-[0-9]",
            {"dist-1", "dist-1/bin", "dist-1/bin/tool", "dist-2", "dist-2/bin", "dist-2/bin/tool"},
        ),
    ],
)
def test_what_a_pattern_brings(scene: Scene, mounted: bool, pattern: str, names: set[str]) -> None:
    (extracted,) = scene.collect(pattern, mounted=mounted)
    found = {os.fsdecode(name): content for name, content in content_of(scene.out).items()}
    assert set(found) == names
    size = sum(len(content) for content in found.values() if content is not None)
    # Of two files of one name the later stays; both have been read.
    assert extracted == ExtractResult(pattern, "ok", 3 if pattern == "*/bin/tool" else size)


def test_of_two_files_of_one_name_the_later_stays(scene: Scene, mounted: bool) -> None:
    (scene.workspace.files / "out/e.png").write_bytes(b"after out/deep")
    scene.collect("*/bin/tool", "out/**/e.png", mounted=mounted)
    found = content_of(scene.out)
    assert (found[b"tool"], found[b"e.png"]) == (b"10", b"after out/deep")


@pytest.mark.parametrize(
    "pattern", ["out/*.jpg", "none/*", "out/a.png/*", "*/*/*/*/*/*", "out/[z-a]", "out/[", "**/x"]
)
def test_no_match_is_missing(scene: Scene, mounted: bool, pattern: str) -> None:
    assert scene.collect(pattern, mounted=mounted) == (ExtractResult(pattern, "missing"),)
    assert not scene.out.exists()


def test_links_are_neither_followed_nor_matches(scene: Scene, mounted: bool, tmp_path: Path) -> None:
    out = scene.workspace.files / "out"
    (out / "link.png").symlink_to(tmp_path / "secret")
    (out / "up").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(out / "pipe.png")
    assert [each.status for each in scene.collect("out/l*", "out/u*/*", "out/p*", mounted=mounted)] == [
        "missing"
    ] * 3
    scene.collect("out/**/*", mounted=mounted)
    assert SECRET not in content_of(scene.out).values()


def test_the_cap_holds_for_all_matches_together(scene: Scene, mounted: bool) -> None:
    (extracted,) = scene.collect("out/*", mounted=mounted, cap=5)
    assert extracted.status == "error"
    assert extracted.bytes <= 5


def test_what_is_tried_is_bounded(scene: Scene, mounted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "NameBudget", lambda: NameBudget(20))
    extracted = scene.collect("out/*.png", "out/a.png", "out/**/*.txt", mounted=mounted)
    assert [each.status for each in extracted] == ["ok", "ok", "error"]
    assert "20 names" in (extracted[-1].error or "")


def test_a_pattern_of_many_stars_is_bounded_too(scene: Scene, mounted: bool) -> None:
    for depth in range(1, 60):
        (scene.workspace.files / Path(*["d"] * depth)).mkdir()
    (extracted,) = scene.collect("/".join(["**/?"] * 150), mounted=mounted)
    assert extracted.status in {"missing", "error"}


def test_folders_nested_without_end(scene: Scene, mounted: bool) -> None:
    (scene.workspace.files / Path(*["d"] * 150)).mkdir(parents=True)
    (extracted,) = scene.collect("**/none", mounted=mounted)
    assert (extracted.status, "deeper" in (extracted.error or "")) == ("error", True)


def test_a_second_name_of_what_does_not_match(scene: Scene, mounted: bool) -> None:
    os.link(scene.workspace.files / "out/c.txt", scene.workspace.files / "out/z.dat")
    (extracted,) = scene.collect("out/*.dat", mounted=mounted)
    if mounted:
        assert extracted == ExtractResult("out/*.dat", "ok", 3)
    else:
        # The engine's archive has the content under the other name only.
        assert extracted.status == "ok" or "second name" in (extracted.error or "")


def test_where_parts_land() -> None:
    pattern = Pattern("/a/b/*/c", NameBudget())
    assert pattern.top == "/a/b"
    assert pattern.map_path((b"x", b"c", b"y")) == (b"c", b"y")
    assert pattern.map_path((b"x",)) is None
    assert pattern.map_path(()) is None

"""Names of images, and the keys that steps are cached by."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from light_run.engine.daemon.client import Engine
from light_run.engine.images.store import Image, Images, step_keys
from light_run.engine.references import is_id, parse
from light_run.errors import EngineRefused, ImageNotFound

DIGEST = "sha256:" + "ab" * 32


class Listening(Engine):
    """An engine that is asked for images only, and notes for which."""

    def __init__(self, refusal: EngineRefused | None = None) -> None:
        super().__init__()
        self.asked: list[str] = []
        self._refusal = refusal

    def inspect_image(self, name: str) -> dict[str, Any]:
        self.asked.append(name)
        if self._refusal is not None:
            raise self._refusal
        reference = DIGEST if is_id(name) else parse(name).canonical
        return {"Id": DIGEST, "Config": {"Env": ["A=1"]}, "RepoTags": [reference]}


@pytest.mark.parametrize(
    "name",
    [
        "alpine",
        "alpine:3.19",
        "library/alpine",
        "a/b/c/d:tag",
        "registry.example.com/a",
        "registry.example.com:5000/a/b:1.0-rc_1",
        "localhost/a",
        "localhost:5000/a",
        "127.0.0.1:5000/a",
        "REGISTRY.example/a",
        "a_b",
        "a__b",
        "a-b",
        "a---b",
        "a.b",
        "0a",
        "a:T_x.-y",
        "a:" + "t" * 128,
        f"a@{DIGEST}",
        f"a:tag@{DIGEST}",
        f"localhost:5000/a/b@{DIGEST}",
        DIGEST,
        "ab" * 32,
        "abcdef012345",
    ],
)
def test_names_of_images(name: str) -> None:
    engine = Listening()
    assert Images(engine).find(name) == Image(DIGEST, {"Env": ["A=1"]})
    assert engine.asked == [name]


# Each would be another path of the engine's API, or is no image's name.
@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        ".",
        "..",
        "../containers/json",
        "../../v1.41/info",
        "a/..",
        "a/../b",
        "a/../../containers/json",
        "..%2fcontainers",
        "a/./b",
        "a//b",
        "/a",
        "a/",
        "-a",
        "a-",
        "_a",
        "a_",
        ".a",
        "a.",
        "a..b",
        "a._b",
        "a___b",
        "Upper",
        "registry/Upper",
        "a b",
        "a\n",
        "a\nb",
        "\na",
        "a\0b",
        "a?x=1",
        "a#x",
        "a%2f",
        "a&b",
        "a\\b",
        "a:",
        ":tag",
        "a:-tag",
        "a:tag:tag",
        "a:" + "t" * 129,
        "a@",
        "a@sha256",
        "a@sha256:",
        "a@sha256:abc",
        "a@sha256:" + "xy" * 32,
        "http://a",
        "https://registry/a",
        "user@registry/a",
        "[::1]:5000/a:1",
        "[fe80::1]/a",
        "[::1/a",
        "[::1]",
        "[../..]/a",
        "ünï",
        "a/ünï",
        "\ud800",
        "$(id)",
    ],
)
def test_what_is_no_name_never_reaches_the_engine(name: str) -> None:
    engine = Listening()
    with pytest.raises(ImageNotFound, match="invalid reference"):
        Images(engine).find(name)
    assert engine.asked == []


@given(name=st.text("./a%:@?#[]-_\\ \n", max_size=20))
def test_a_name_that_is_let_through_is_no_path(name: str) -> None:
    engine = Listening()
    try:
        Images(engine).find(name)
    except ImageNotFound:
        return
    assert not set(name) & set("%?#\\ \n")
    assert not {"", ".", ".."} & set(name.split("/"))


def test_an_image_that_is_not_there() -> None:
    assert Images(Listening(EngineRefused(404, "No such image"))).find("a") is None


def test_an_engine_that_fails() -> None:
    with pytest.raises(EngineRefused, match="broken"):
        Images(Listening(EngineRefused(500, "broken"))).find("a")


def test_an_image_without_a_configuration() -> None:
    class Bare(Listening):
        def inspect_image(self, name: str) -> dict[str, Any]:
            return {"Id": DIGEST, "Config": None, "RepoTags": ["a:latest"]}

    image = Images(Bare()).find("a")
    assert image is not None
    assert image.config == {}


# An engine takes the beginning of an id for a name, and finds whatever image has it.
@pytest.mark.parametrize("name", ["ab", "abab", "ab" * 6, "ab" * 31, "abab:latest", "other:1", f"b@{DIGEST}"])
def test_what_is_not_called_that_is_not_found(name: str) -> None:
    class Guessed(Listening):
        def inspect_image(self, name: str) -> dict[str, Any]:
            return {"Id": DIGEST, "Config": {}, "RepoTags": ["secret:1"], "RepoDigests": [f"secret@{DIGEST}"]}

    assert Images(Guessed()).find(name) is None
    assert Images(Guessed()).find("docker.io/library/secret:1") is not None
    assert Images(Guessed()).find(f"secret@{DIGEST}") is not None


@pytest.mark.parametrize("name", ["cd" * 32, "sha256:" + "cd" * 32])
def test_an_id_is_the_image_s_own(name: str) -> None:
    class Other(Listening):
        def inspect_image(self, name: str) -> dict[str, Any]:
            return {"Id": DIGEST, "Config": {}, "RepoTags": [f"{name}:latest"]}

    assert Images(Other()).find(name) is None


@pytest.mark.parametrize(
    "name", ["light-run-cache:" + "ab" * 32, "docker.io/library/light-run-cache", "x/light-run-cache:1"]
)
def test_images_of_steps_have_no_name(name: str) -> None:
    engine = Listening()
    with pytest.raises(ImageNotFound, match="cached steps"):
        Images(engine).find(name)
    assert engine.asked == []
    assert Images(engine).find_steps("ab") is not None


# --- keys of steps ----------------------------------------------------------------------------------------

STEPS = st.lists(st.text(max_size=20), min_size=1, max_size=5)


def test_a_key_is_the_sha256_of_base_and_steps() -> None:
    (one, two) = step_keys(DIGEST, ["a", "b"])
    assert one == hashlib.sha256(json.dumps([DIGEST, ["a"]]).encode()).hexdigest()
    assert two == hashlib.sha256(json.dumps([DIGEST, ["a", "b"]]).encode()).hexdigest()


@given(steps=STEPS, more=STEPS)
def test_a_shared_prefix_has_shared_keys(steps: list[str], more: list[str]) -> None:
    assert step_keys(DIGEST, [*steps, *more])[: len(steps)] == step_keys(DIGEST, steps)


@given(one=STEPS, other=STEPS)
def test_other_steps_are_other_keys(one: list[str], other: list[str]) -> None:
    assert (step_keys(DIGEST, one)[-1] == step_keys(DIGEST, other)[-1]) == (one == other)


def test_another_scope_is_another_key() -> None:
    keys = {step_keys(DIGEST, ["a"], scope)[0] for scope in ([], [""], ["alice"], ["bob"], ["alice", "64m"])}
    assert len(keys) == 5


def test_how_steps_are_cut_makes_a_difference() -> None:
    keys = {step_keys(DIGEST, steps)[-1] for steps in (["ab"], ["a", "b"], ["a\nb"], ["", "ab"], ["ab", ""])}
    assert len(keys) == 5


def test_another_base_is_another_key() -> None:
    assert step_keys(DIGEST, ["a"]) != step_keys("sha256:" + "cd" * 32, ["a"])


def test_a_key_is_a_tag() -> None:
    engine = Listening()
    assert Images(engine).find_steps(step_keys(DIGEST, ["ünï"])[-1])
    assert parse(engine.asked[0]).of_steps

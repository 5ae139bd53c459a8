"""Policies: which images and networks a pattern allows."""

from __future__ import annotations

import pytest

from light_run.api.requests.policy import Policy, matches, spellings

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("pattern", "image", "allowed"),
    [
        ("alpine:*", "alpine:3.19", True),
        ("alpine:*", "alpine", True),
        ("alpine:*", "docker.io/library/alpine:3.19", True),
        ("docker.io/library/alpine:*", "alpine:3.19", True),
        ("docker.io/acme/*", "acme/tool", True),
        ("alpine:3.19", "alpine", False),
        ("alpine", "alpine:latest", False),
        ("python*", "python:3.12", True),
        ("python*", "pythonista/evil:1", False),
        ("acme/*", "acme/tool:1", True),
        ("acme/*", "evil.example/acme/tool:1", False),
        ("ghcr.io/acme/*", "ghcr.io/acme/team/tool:1", False),
        ("ghcr.io/acme/**", "ghcr.io/acme/team/tool:1", True),
        ("a.c", "abc", False),
        ("img?", "img1", True),
        ("alpine@sha256:*", f"alpine@{DIGEST}", True),
        ("alpine:*", DIGEST, False),
        ("alpine:*", "alpine:3\nx", False),
        # The parsed name counts, not what the text looks like.
        ("docker.io/**", "EVILHOST/x", False),
        ("docker.io/**", "acme/x", True),
        ("alpine:*", "docker.io/index.docker.io/alpine:3", False),
        ("alpine:*", "index.docker.io/alpine:3", True),
        ("index.docker.io/library/alpine:*", "alpine:3", True),
        ("library/alpine", "library/library/alpine", False),
        ("library/alpine", "alpine", True),
        ("docker.io/library/library/*", "library/library/alpine", True),
        ("localhost/*", "localhost/x", True),
        ("docker.io/**", "localhost/x", False),
        ("tool:3.*", f"tool:3.1@{DIGEST}", False),
        ("tool:3.*@*", f"tool:3.1@{DIGEST}", True),
        ("tool@*", f"tool@{DIGEST}", True),
        ("tool@*", f"tool:3.1@{DIGEST}", True),
        ("tool:3.1@*", f"tool@{DIGEST}", False),
        ("*", "ab" * 32, False),
        ("library/*", "ab" * 32, False),
        ("**", DIGEST, False),
        ("sha256:*", DIGEST, True),
        ("sha256:*", "ab" * 32, True),
    ],
)
def test_images(pattern: str, image: str, allowed: bool) -> None:
    assert Policy(images=(pattern,)).allows_image(image) is allowed


def test_no_patterns_allow_all_and_none_allow_none() -> None:
    assert Policy().allows_image("anything")
    assert not Policy(images=()).allows_image("anything")
    assert Policy().allows_network("anything")
    assert not Policy(networks=("none",)).allows_network("bridge")


def test_one_image_has_these_spellings() -> None:
    names = ("alpine", "library/alpine", "docker.io/library/alpine", "index.docker.io/library/alpine")
    assert spellings("alpine") == {f"{name}{tag}" for name in names for tag in ("", ":latest")}
    assert spellings("localhost:5000/a") == {"localhost:5000/a", "localhost:5000/a:latest"}


def test_a_pattern_with_signs_of_regular_expressions_is_taken_literally() -> None:
    assert matches(["a+(b)[c]"], "a+(b)[c]")
    assert not matches(["a+"], "aa")


@pytest.mark.parametrize(
    ("users", "user", "allowed"),
    [
        (None, "root", True),
        (None, "0", True),
        (("1000",), "1000", True),
        (("1000",), "1000:1000", False),
        (("1000:*",), "1000:5", True),
        (("1000:*",), "1000", False),
        (("*",), "app:staff", True),
        (("*",), "root", False),
        (("*", "?"), "0", False),
        (("*:*",), "0:1000", False),
        (("root", "*"), "0", True),
        (("0",), "root", True),
        (("0:*",), "root:5", True),
        (("65534:65534",), "65534:65534", True),
    ],
)
def test_users(users: tuple[str, ...] | None, user: str, allowed: bool) -> None:
    assert Policy(users=users).allows_user(user) is allowed

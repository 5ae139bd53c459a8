"""Image references, taken apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from light_run.engine.references import Reference, is_id, is_named, parse

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "registry", "path", "tag", "digest"),
    [
        ("alpine", "docker.io", "library/alpine", "latest", None),
        ("alpine:3.19", "docker.io", "library/alpine", "3.19", None),
        ("acme/tool", "docker.io", "acme/tool", "latest", None),
        ("docker.io/alpine", "docker.io", "library/alpine", "latest", None),
        ("index.docker.io/acme/tool:1", "docker.io", "acme/tool", "1", None),
        ("localhost/a", "localhost", "a", "latest", None),
        ("localhost:5000/a/b:1", "localhost:5000", "a/b", "1", None),
        ("127.0.0.1:5000/a", "127.0.0.1:5000", "a", "latest", None),
        ("ghcr.io/a/b", "ghcr.io", "a/b", "latest", None),
        ("REGISTRY/a", "REGISTRY", "a", "latest", None),
        (f"alpine@{DIGEST}", "docker.io", "library/alpine", None, DIGEST),
        (f"ghcr.io/a:1@{DIGEST}", "ghcr.io", "a", "1", DIGEST),
    ],
)
def test_parts(text: str, registry: str, path: str, tag: str | None, digest: str | None) -> None:
    assert parse(text) == Reference(registry, path, tag, digest)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[::1]:5000/a:1", "IPv6"),
        ("a@sha256:abc", "no digest"),
        ("a:-x", "no tag"),
        ("Upper", "capital letters"),
        ("a//b", "empty"),
        ("", "empty"),
        ("-a", "no part of a repository"),
        ("http://a", "no registry"),
        ("-bad.example/a", "no registry"),
    ],
)
def test_what_is_wrong_is_said(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse(text)


@given(text=st.text(max_size=40) | st.text("abAB01./:@_-[]", max_size=40))
def test_whatever_is_parsed_is_stable(text: str) -> None:
    try:
        found = parse(text)
    except ValueError:
        return
    assert parse(found.canonical).canonical == found.canonical


def test_ids() -> None:
    assert is_id("ab" * 32)
    assert is_id(DIGEST)
    assert not any(
        map(is_id, ["ab" * 31, "ab", "AB" * 32, "sha256:ab", "md5:" + "ab" * 32, "ab" * 32 + ":latest"])
    )


def test_names_of_an_image() -> None:
    names = ["alpine:3.19", "localhost:5000/a:1", "<none>:<none>", f"alpine@{DIGEST}"]
    assert is_named(parse("docker.io/library/alpine:3.19"), names)
    assert is_named(parse("localhost:5000/a:1"), names)
    # Of tag and digest, an engine looks at the digest.
    assert is_named(parse(f"alpine:3.20@{DIGEST}"), names)
    assert not is_named(parse("alpine"), names)
    assert not is_named(parse("a:1"), names)

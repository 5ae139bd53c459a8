"""Request threads: one token leaves some for another."""

from __future__ import annotations

from pathlib import Path

from werkzeug.test import TestResponse

from light_run.config import tokens
from light_run.config.tokens import TokenFile
from tests.unit.conftest import MakeClient


def test_threads_are_shared_between_tokens(make_client: MakeClient, tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    alice, bob = tokens.create(path, "alice"), tokens.create(path, "bob")
    client = make_client(named=TokenFile(path), token="of the operator", threads=8, followers=0)

    def ask(token: str) -> TestResponse:
        return client.get("/runs", headers={"Authorization": f"Bearer {token}"})

    held = [ask(alice) for _ in range(6)]
    assert {response.status_code for response in held} == {200}
    refused = ask(alice)
    assert (refused.status_code, refused.json and refused.json["error"]) == (503, "overloaded")
    assert refused.headers["Retry-After"] == "1"
    for other in (bob, "of the operator"):
        with ask(other) as response:
            assert response.status_code == 200
    # A response counts until it was sent.
    held.pop().close()
    with ask(alice) as response:
        assert response.status_code == 200
    for response in held:
        response.close()

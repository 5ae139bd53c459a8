"""``?request=true``: what was asked for, in the list and for one run."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

from flask.testing import FlaskClient

BODY = {"image": "alpine", "files": {"a": "content"}, "entrypoint": "true", "env": {"NAME": "value"}}


def test_it_is_told_where_it_is_asked_for(client: FlaskClient) -> None:
    for _ in range(2):
        final = client.post("/run", data=json.dumps(BODY)).get_json()
        assert "request" not in final
    assert "request" not in client.get("/runs").get_json()[0]
    response = client.get("/runs?limit=1&request=true")
    (listed,) = response.get_json()
    assert listed["request"]["image"] == "alpine"
    assert listed["request"]["env"] == ["NAME"]
    assert listed["createdAt"] <= listed["startedAt"]
    query = parse_qs(urlsplit(response.headers["Link"].partition(">")[0][1:]).query)
    assert query == {"request": ["true"], "limit": ["1"], "before": [final["id"]]}
    one = client.get(f"/runs/{final['id']}?request=true").get_json()
    assert one == listed
    assert client.get("/runs?request=yes").get_json()["details"][0]["path"] == ["request"]

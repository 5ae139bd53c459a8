"""What a run was asked for, for people who look at it: no values of environment variables, no input, no contents."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from light_run.engine.spec import File, RunSpec

# Characters of a command or a pattern, entries of a list, and bytes of the whole: thousands of them stay in memory.
_LONGEST, _MOST, _BYTES = 300, 20, 4096


def summarise(spec: RunSpec, *, detached: bool) -> str:
    """Return a JSON object with the fields of the request, by their names in ``POST /run``.

    `env` is a list of names, ``files`` a list of ``{"path", "bytes"}``. Long texts are cut, long lists too, and
    ``truncated`` is true then.
    """
    limits = spec.limits
    files = list(spec.files.items()) if isinstance(spec.files, Mapping) else []
    lists: dict[str, list[Any]] = {
        "run": list(spec.steps),
        "env": list(spec.env),
        "extract": list(spec.extract),
        "files": [{"path": path, "bytes": _size(content)} for path, content in files],
    }
    found: dict[str, Any] = {
        "image": spec.image,
        "entrypoint": spec.entrypoint,
        "timeout": round(spec.timeout * 1000),
        "network": spec.network,
        "networks": [spec.network, *spec.networks] if spec.networks else None,
        "workdir": spec.workdir,
        "limits": limits and {"memory": limits.memory, "cpus": limits.cpus, "pids": limits.pids},
        "runtime": spec.runtime,
        "pull": spec.pull,
        "platform": spec.platform,
        "detached": detached,
        **{name: entries[:_MOST] for name, entries in lists.items()},
    }
    cut = any(len(entries) > _MOST for entries in lists.values())
    shown = {name: _shortened(value) for name, value in found.items() if value not in (None, [])}
    if shown["image"] != spec.image or shown.get("entrypoint") != spec.entrypoint:
        cut = True
    text = _dump({**shown, "truncated": True} if cut else shown)
    if len(text) > _BYTES:
        few = {name: value for name, value in shown.items() if name not in lists}
        text = _dump({**few, "truncated": True})
    return text


def _size(content: File | bytes | str) -> int:
    data = content.content if isinstance(content, File) else content
    return len(data.encode() if isinstance(data, str) else data)


def _shortened(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= _LONGEST else value[: _LONGEST - 1] + "…"
    if isinstance(value, list):
        return [_shortened(each) for each in value]
    if isinstance(value, dict):
        return {name: _shortened(each) for name, each in value.items()}
    return value


def _dump(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)

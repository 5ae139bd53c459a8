"""What one container has written to the engine's disk, in all the places where it may."""

from __future__ import annotations

import base64
import contextlib
import json
import os
from collections.abc import Mapping
from typing import Any

# Files that are mounted into a container, and open to root in it: by the name under which the engine says where
# they are on its host. They are the engine's own, or ours where we gave it one.
_MOUNTED = {"HostsPath": "/etc/hosts", "HostnamePath": "/etc/hostname", "ResolvConfPath": "/etc/resolv.conf"}
_STAT = "X-Docker-Container-Path-Stat"


def written_bytes(api: Any, container: str) -> int:
    """Bytes in the container's own layer, its volumes and the files that are mounted in its ``/etc``.

    `api` is docker-py's client; raises what that raises. The engine walks the layer to know.
    """
    found = _get(api, "/containers/{0}/json", container, size=1)
    volumes = {mount.get("Name") for mount in found.get("Mounts") or [] if mount["Type"] == "volume"}
    written = int(found.get("SizeRw") or 0)
    if volumes:
        known = _get(api, "/system/df", type="volume").get("Volumes") or []
        sizes = [volume["UsageData"]["Size"] for volume in known if volume["Name"] in volumes]
        # -1 is of a volume that cannot be measured.
        written += sum(max(0, int(size)) for size in sizes)
    return written + sum(_mounted_file(api, container, found, key) for key in _MOUNTED)


def _mounted_file(api: Any, container: str, found: Mapping[str, Any], key: str) -> int:
    # As a file of this host, which a container can hide from nobody; else as the engine sees it in the container.
    if not found.get(key):
        return 0
    with contextlib.suppress(OSError):
        return os.stat(found[key]).st_blocks * 512
    url, params = api._url("/containers/{0}/archive", container), {"path": _MOUNTED[key]}
    response = api.head(url, params=params, timeout=api.timeout)
    stat = json.loads(base64.b64decode(response.headers.get(_STAT, "e30=")))
    return int(stat.get("size", 0))


def _get(api: Any, path: str, *names: str, **params: object) -> dict[str, Any]:
    return dict(api._result(api._get(api._url(path, *names), params=params), json=True))

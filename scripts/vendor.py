#!/usr/bin/env python
"""Fetch the released files that the package ships (light_run/api/vendored/vendored.json) from the npm registry.

    python scripts/vendor.py                    the releases of the list once more, each checked against its hashes
    python scripts/vendor.py uplot 1.6.33       another release of one package

A new release is checked against the integrity that the registry names; the list then has its hashes. Only the files
that the list names are taken, unchanged.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

import requests

REPOSITORY = Path(__file__).resolve().parents[1]
LIST = REPOSITORY / "light_run" / "api" / "vendored" / "vendored.json"
REGISTRY = "https://registry.npmjs.org"
TIMEOUT = 60.0

Package = dict[str, Any]


def main() -> None:
    """Read the command line and update the files and the list."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="?", help="package of the list that gets another release")
    parser.add_argument("version", nargs="?", help="the release, such as 1.6.33")
    asked = parser.parse_args()
    packages: list[Package] = json.loads(LIST.read_text())
    if asked.name is not None:
        found = [package for package in packages if package["name"] == asked.name]
        if not found or asked.version is None:
            parser.error(f"give a version, and one of: {', '.join(package['name'] for package in packages)}")
        packages_to_fetch = found
        found[0].update(version=asked.version, integrity=_integrity(asked.name, asked.version))
        found[0]["files"] = dict.fromkeys(found[0]["files"], "")
    else:
        packages_to_fetch = packages
    for package in packages_to_fetch:
        vendor(package)
    LIST.write_text(json.dumps(packages, indent=2) + "\n")


def vendor(package: Package) -> None:
    """Write the files of `package` into its folder; exit with an error if a hash differs."""
    name, version = package["name"], package["version"]
    content = _get(f"{REGISTRY}/{name}/-/{name}-{version}.tgz")
    found = "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
    if found != package["integrity"]:
        sys.exit(f"vendor.py: {name} {version} has the integrity {found}, not {package['integrity']}")
    folder = REPOSITORY / package["folder"]
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        for path, expected in package["files"].items():
            member = archive.extractfile(f"package/{path}")
            if member is None:
                sys.exit(f"vendor.py: {name} {version} has no file {path}")
            data = member.read()
            digest = hashlib.sha256(data).hexdigest()
            if expected not in ("", digest):
                sys.exit(f"vendor.py: {path} of {name} {version} has the SHA-256 {digest}, not {expected}")
            package["files"][path] = digest
            (folder / PurePosixPath(path).name).write_bytes(data)
    print(f"{name} {version}: {len(package['files'])} files in {package['folder']}")


def _integrity(name: str, version: str) -> str:
    found: str = json.loads(_get(f"{REGISTRY}/{name}/{version}"))["dist"]["integrity"]
    return found


def _get(url: str) -> bytes:
    response = requests.get(url, timeout=TIMEOUT)
    response.raise_for_status()
    return response.content


if __name__ == "__main__":
    main()

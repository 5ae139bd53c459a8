"""Look for known holes in what is installed here; a hole found is exit code 1.

Where the advisory service cannot be reached, or knows none of the packages, that is said in one line and is
no failure: a build without a network must still be possible.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

COMMAND = ["-m", "pip_audit", "--format", "json", "--progress-spinner", "off", "--timeout", "10"]
SECONDS = 180
OURS = "light-run"


def audited(command: list[str]) -> tuple[list[dict[str, Any]], str]:
    """What pip-audit says of each package, or why it says nothing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return [], f"no answer within {SECONDS} s"
    try:
        return json.loads(done.stdout)["dependencies"], ""
    except (ValueError, KeyError):
        return [], (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def main(command: list[str]) -> int:
    """Print holes, or a line on why none were looked for; the exit code."""
    packages, why = audited(command)
    known = [package for package in packages if "vulns" in package]
    holes = [package for package in known if package["vulns"] and package["name"] != OURS]
    for package in holes:
        for hole in package["vulns"]:
            better = ", ".join(hole.get("fix_versions", ())) or "no version yet"
            print(f"{package['name']} {package['version']}: {hole['id']}, mended in {better}")
    if not known:
        print(
            f"audit: nothing was looked up, the advisory service cannot be used here: {why or 'it knows nothing'}"
        )
    else:
        print(f"audit: {len(known)} packages looked up, {len(holes)} with known holes")
    return 1 if holes else 0


if __name__ == "__main__":
    python = Path(sys.executable)
    sys.exit(main(sys.argv[1:] or [str(python), *COMMAND]))

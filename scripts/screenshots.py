#!/usr/bin/env python
"""Take the pictures of the console that the documentation shows, into docs/images: four views, desktop and phone.

    python scripts/screenshots.py

Needs a container engine, busybox and chromium-headless-shell (make test-engine). The server and its runs are its own.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from tests.support.browser import Browser, running_browser  # noqa: E402
from tests.support.server import Server, running_server  # noqa: E402

IMAGES = REPOSITORY / "docs" / "images"
# Width, height, colour scheme.
SIZES = {"desktop": (1200, 760, "light"), "phone": (390, 780, "dark")}

REPORT = r"""
printf '\033[1mTraining\033[0m on 400 rows\n'
for epoch in 1 2 3 4 5 6; do
    printf 'epoch %d  loss \033[33m0.%d\033[0m  \033[32mok\033[0m\n' $epoch $((90 - 7 * epoch)); sleep 0.2
done
echo 'warning: 3 rows have no label' >&2
mkdir -p out/plots
printf 'epoch,loss\n1,0.83\n2,0.76\n3,0.69\n' > out/loss.csv
echo done > out/plots/readme.txt
printf '\033[36mwrote\033[0m out/loss.csv\n'
"""


def main() -> None:
    """Start a server and runs, and take all pictures."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        browser_folder = Path(folder) / "browser"
        browser_folder.mkdir()
        with (
            running_server(Path(folder) / "server", token=None) as server,
            running_browser(browser_folder, "") as browser,
        ):
            shown = runs(server)
            browser.open(f"{server.url}/")
            views = {
                "runs": ("#/runs", "document.querySelectorAll('a.row').length > 5"),
                "run": (f"#/runs/{shown}", "document.querySelectorAll('.line').length > 7"),
                "new": ("#/new", "document.querySelector('#field-image') !== null"),
                "service": ("#/service", "document.querySelector('.plot canvas') !== null"),
            }
            for size, (width, height, scheme) in SIZES.items():
                browser.look(width, height, scheme)
                for name, (place, ready) in views.items():
                    take(browser, place, ready, IMAGES / f"console-{name}-{size}.png")
            server.cancel_all()


def runs(server: Server) -> str:
    """Start runs that end in different ways; the id of the one that is shown."""
    server.run(entrypoint="echo hello")
    server.run(entrypoint="python3 grade.py --strict")
    server.run(entrypoint="sleep 60", timeout=600)
    server.run(entrypoint="tail /dev/zero", limits={"memory": "16m"})
    server.run(image="busybox:no-such-tag", pull="never", entrypoint="true")
    server.run(entrypoint="sort words.txt | uniq -c", files={"words.txt": "b\na\nb\n"})
    shown = str(server.run(entrypoint=REPORT, files={"rows.csv": "1,2\n"}, extract=["out"])["id"])
    server.start(entrypoint="until [ -e /tmp/done ]; do sleep 1; done")
    return shown


def take(browser: Browser, place: str, ready: str, path: Path) -> None:
    """Write the picture of a view once it is `ready`."""
    browser.evaluate(f"location.hash = {json.dumps(place)}")
    browser.until(ready)
    if "/new" in place:
        browser.type("#field-entrypoint", "python3 squares.py")
    # A moment for what is drawn after that: the editor, the plot, the colours.
    time.sleep(1)
    browser.evaluate("document.activeElement.blur()")
    path.write_bytes(browser.screenshot())
    print(f"{path.relative_to(REPOSITORY)}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Show light-run at work: start a server, run one container by HTTP, fetch its artifact, clean up.

    .venv/bin/python scripts/demo.py IMAGE      IMAGE: any with a shell, `make demo` finds one

Every request is printed as the curl command that would send it. The exit code is not 0 if anything went wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

START_SECONDS = 30
STOP_SECONDS = 30
REQUEST_SECONDS = 120

COUNT = """\
read -r number
echo "counting to $number"
mkdir out
seq $number > out/numbers.txt
"""

# Straight to the loopback interface, whatever proxy the environment names.
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class DemoError(Exception):
    """Something did not go as the contract says."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("image")
    image = parser.parse_args().image
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        with tempfile.TemporaryDirectory(prefix="light-run-demo-") as folder:
            token = secrets.token_urlsafe(12)
            with running_server(Path(folder), token) as url:
                show_one_run(url, token, image)
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    print("\nThe server is stopped and its folder removed. `make serve` starts one to keep.")
    return 0


@contextmanager
def running_server(folder: Path, token: str) -> Iterator[str]:
    """Run `light-run serve` on a free port with everything it writes under `folder`; give its URL."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = os.environ | {
        "LIGHT_RUN_ARTIFACTS_DIR": str(folder / "artifacts"),
        "LIGHT_RUN_STATE_DIR": str(folder / "state"),
    }
    command = [
        str(Path(sys.executable).parent / "light-run"),
        "serve",
        "--port",
        str(port),
        "--token",
        token,
    ]
    print(f"$ light-run serve --port {port} --token {token}")
    log = folder / "server.log"
    with log.open("wb") as output:
        # A session of its own: Ctrl-C reaches this script alone, which then stops the server in good order.
        server = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_until_healthy(url, server)
        yield url
    except Exception:
        print(
            f"--- what the server said\n{log.read_text(errors='replace')}---",
            file=sys.stderr,
        )
        raise
    finally:
        stop(server)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_until_healthy(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise DemoError(f"the server ended at once, exit code {server.returncode}")
        try:
            opener.open(f"{url}/health", timeout=5).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise DemoError(f"the server was not healthy within {START_SECONDS} s")


def stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        raise DemoError(f"the server did not stop within {STOP_SECONDS} s") from None


def show_one_run(url: str, token: str, image: str) -> None:
    body = {
        "image": image,
        "files": {"count.sh": COUNT},
        "entrypoint": "sh count.sh",
        "input": 3,
        "network": "none",
        "timeout": 60_000,
        "extract": ["out/numbers.txt"],
    }
    run = json.loads(send(f"{url}/run", token, body))
    print(json.dumps(run, indent=2))
    expect(run, "status", "succeeded")
    expect(run, "exitCode", 0)
    expect(run, "logs", ["counting to 3"])

    artifact = send(f"{url}/runs/{run['id']}/artifacts/numbers.txt", token)
    print(artifact, end="")
    if artifact != "1\n2\n3\n":
        raise DemoError(f"the artifact holds {artifact!r}")


def send(url: str, token: str, body: dict[str, Any] | None = None) -> str:
    """POST `body`, or GET where there is none; print the same as a curl command and return the answer's text."""
    text = None if body is None else json.dumps(body, indent=2)
    authorization = f"Bearer {token}"
    print(f"\n$ curl -s {url} -H 'Authorization: {authorization}'", end="")
    print("" if text is None else f" -d {shlex.quote(text)}")
    request = urllib.request.Request(
        url,
        data=None if text is None else text.encode(),
        headers={"Authorization": authorization},
    )
    try:
        with opener.open(request, timeout=REQUEST_SECONDS) as response:
            return str(response.read().decode())
    except urllib.error.HTTPError as error:
        raise DemoError(
            f"the server answered {error.code}: {error.read().decode(errors='replace')}"
        ) from None
    except OSError as error:
        raise DemoError(f"no answer from the server: {error}") from None


def expect(run: dict[str, Any], field: str, value: object) -> None:
    if run.get(field) != value:
        raise DemoError(f"{field} is {run.get(field)!r}, not {value!r}")


if __name__ == "__main__":
    sys.exit(main())

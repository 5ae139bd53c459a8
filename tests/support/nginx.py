"""Real nginx with the site of ``deploy/``, started by hand under a folder of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.poll import eventually
from tests.support.server import REPOSITORY, free_port

SITE = REPOSITORY / "deploy" / "nginx.conf"
ARTIFACTS = "/var/lib/light-run/artifacts"
USER = "www-data"
ROOT = "location / {\n        proxy_pass http://light_run;"

MAIN = """\
daemon off;
{user}
worker_processes 2;
pid {folder}/pid;
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
    default_type application/octet-stream;
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site;
}}
"""


def binary() -> str:
    """Where nginx is; Debian keeps it out of an ordinary user's path."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    assert found, "nginx is needed: scripts/ensure-test-tools"
    return found


def site(port: int, upstream: int, artifacts: Path) -> str:
    """The site as it is in ``deploy/``, but for its addresses and the artifact folder."""
    text = SITE.read_text()
    for shipped, ours in {
        "listen 80;": f"listen 127.0.0.1:{port};",
        "server 127.0.0.1:3000;": f"server 127.0.0.1:{upstream};",
        ARTIFACTS: str(artifacts),
    }.items():
        assert shipped in text, f"{shipped!r} is not in {SITE}"
        text = text.replace(shipped, ours)
    return text


@contextmanager
def running_nginx(folder: Path, *, upstream: int, artifacts: Path, prefix: str = "") -> Iterator[str]:
    """The address of an nginx in front of port `upstream`; its workers are Debian's user where we are root.

    Under a `prefix` the server's paths are below that.
    """
    folder.mkdir(parents=True)
    port = free_port()
    user = f"user {USER};" if os.geteuid() == 0 else ""
    (folder / "main").write_text(MAIN.format(user=user, folder=folder))
    text = site(port, upstream, artifacts)
    if prefix:
        assert ROOT in text, f"{ROOT!r} is not in {SITE}"
        text = text.replace(ROOT, f"location {prefix}/ {{\n        proxy_pass http://light_run/;")
    (folder / "site").write_text(text)
    command = [binary(), "-p", str(folder), "-c", str(folder / "main")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:

        def listening() -> bool:
            assert process.poll() is None, (folder / "log").read_text()
            with socket.socket() as connection:
                return connection.connect_ex(("127.0.0.1", port)) == 0

        eventually(listening, "nginx listens")
        yield f"http://127.0.0.1:{port}{prefix}"
    finally:
        process.terminate()
        process.wait(20)

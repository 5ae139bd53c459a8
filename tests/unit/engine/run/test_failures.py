"""What clients are told of failures: no path of the host, and what failed."""

from __future__ import annotations

import errno

import pytest

from light_run.engine.run.failures import hide_paths, os_error_message

FOLDERS = ("/data/engine", "/srv/state/", "")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "error creating overlay mount to /var/lib/docker/overlay2/3f2a/merged: no space left on device",
            "error creating overlay mount to [a path of the host]: no space left on device",
        ),
        ('open "/data/engine/containers/ab/config.json": EIO', 'open "[a path of the host]": EIO'),
        (
            "bind source path does not exist: /srv/state/workspaces/x/files",
            "bind source path does not exist: *",
        ),
        ("(/srv/state), (/run/containerd/io.containerd/x=y)", "(*), (*=y)"),
        # What is a container's, or only begins alike.
        ("exec: stat /usr/bin/tool: no such file", "exec: stat /usr/bin/tool: no such file"),
        ("/srv/statement /data/engine-2 /app/data/engine", "/srv/statement /data/engine-2 /app/data/engine"),
        ("a / b", "a / b"),
    ],
)
def test_paths_of_the_host_are_not_shown(text: str, shown: str) -> None:
    assert hide_paths(text, FOLDERS) == shown.replace("*", "[a path of the host]")


@pytest.mark.parametrize(
    ("number", "step", "message"),
    [
        (
            errno.ENOSPC,
            "start",
            "the server's disk failed while its files were written and its container was started: ",
        ),
        (errno.EROFS, "extract", "the server's disk failed while its files were extracted: "),
        (errno.EMFILE, "run", "the server has too many files open while it ran: "),
        (
            errno.EAGAIN,
            "image",
            "the server's host has no memory or no processes left while its image was prepared: ",
        ),
        (errno.ENOENT, None, "the server could not do its part of the run: "),
    ],
)
def test_what_failed_is_said(number: int, step: str | None, message: str) -> None:
    said = os_error_message(OSError(number, "ours", "/srv/state/secret"), step)
    assert said.startswith(message)
    assert "secret" not in said


def test_an_error_without_a_number() -> None:
    assert os_error_message(OSError("odd"), None) == "the server could not do its part of the run: OSError"

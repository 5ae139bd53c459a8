"""Credentials of registries, from the docker configuration file of the server's user."""

from __future__ import annotations

import subprocess

from docker import auth
from docker.errors import DockerException
from docker.utils import parse_repository_tag

from light_run.engine.daemon.transport import CONFIGURATION
from light_run.errors import PullFailed


def credentials(image: str) -> dict[str, str]:
    """What the docker configuration has for the registry of `image`; empty where it has nothing.

    The file is ``config.json`` in ``$DOCKER_CONFIG``, or in ``~/.docker``: its ``auths``, and the programs
    (``docker-credential-NAME``) in ``credHelpers`` and ``credsStore``. It is read each time: a ``docker login``
    counts from the next pull on. Raises PullFailed where the file cannot be used, or a program fails; its
    sentence has nothing of what they say.
    """
    registry, _ = auth.resolve_repository_name(parse_repository_tag(image)[0])
    try:
        return dict(auth.load_config().resolve_authconfig(registry) or {})
    except (DockerException, ValueError, KeyError, TypeError, AttributeError, subprocess.SubprocessError):
        # Not chained: what a program printed may be the very secret.
        raise PullFailed(
            f"the credentials for {registry} cannot be had: {CONFIGURATION} is broken, or names a program for them "
            "(docker-credential-...) that is not there or fails"
        ) from None

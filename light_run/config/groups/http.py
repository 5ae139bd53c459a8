"""The HTTP server: address, tokens, browsers, limits of requests and responses."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from light_run.config import readers
from light_run.config.variables import MIB, setting

_NOTHING: tuple[str, ...] = ()
_NO_NETWORKS: tuple[IPv4Network | IPv6Network, ...] = ()


@dataclass(frozen=True, kw_only=True)
class HTTPSettings:
    """The HTTP server: address, tokens, browsers, limits of requests and responses."""

    port: int = setting(3000, readers.integer(1, 65535), "TCP port to listen on", option="--port")
    host: str = setting("127.0.0.1", readers.word, "address or name to listen on", option="--host")
    token: str | None = setting(
        None,
        readers.token,
        "bearer token that every route except GET /health requires",
        shown="unset: no authentication, with a warning",
        option="--token",
        secret=True,
    )
    tokens_file: Path | None = setting(
        None,
        readers.path,
        "file of named tokens, see light-run token; reloaded when it changes",
        shown="unset: only LIGHT_RUN_TOKEN",
    )
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = setting(
        _NO_NETWORKS,
        readers.networks,
        "addresses of proxies whose X-Forwarded-For is trusted for counting failed logins, such as 127.0.0.1",
        shown="none",
    )
    origins: tuple[str, ...] = setting(
        _NOTHING,
        readers.origins,
        "origins whose web pages may use the server, such as https://*.example.com, or * for all",
        shown="only the server's own",
    )
    hosts: tuple[str, ...] = setting(
        _NOTHING,
        readers.hosts,
        "patterns of host names allowed for a server without a token, besides localhost and IP addresses",
        shown="none",
    )
    console: bool = setting(True, readers.boolean, "serve the console, a page at / for browsers")
    body_limit: int = setting(
        10 * MIB, readers.size(1), "maximum bytes of a request body", option="--body-limit"
    )
    upload_limit: int = setting(
        1024 * MIB,
        readers.size(1),
        "maximum bytes of a multipart body, and of its unpacked files",
        option="--upload-limit",
    )
    body_timeout: float = setting(
        60.0,
        readers.seconds(0.1, 3600),
        "seconds within which a request body must arrive; multipart bodies get one more for each 32 KiB",
        shown="60",
    )
    send_timeout: float = setting(
        60.0,
        readers.seconds(0.1, 3600),
        "seconds within which a client must read the next 64 KiB of a response",
        shown="60",
    )

"""Certificates of an authority of the tests' own."""

from __future__ import annotations

import subprocess
from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
_SIGNED_BY = ("-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial", "-days", "2", "-extfile", "ext")


def make_certificates(folder: Path) -> None:
    """Make an authority, ``ca.pem``, and certificates of a server (``server-*.pem``) and a client, signed by it."""
    folder.mkdir()
    authority = ["-x509", "-days", "2", "-subj", "/CN=authority", "-keyout", "ca-key.pem", "-out", "ca.pem"]
    _openssl(folder, "req", *_KEY, *authority)
    for name, usage in (("server-", "serverAuth"), ("", "clientAuth")):
        _openssl(
            folder, "req", *_KEY, "-subj", "/CN=x", "-keyout", f"{name}key.pem", "-out", f"{name}csr.pem"
        )
        (folder / "ext").write_text(f"subjectAltName=IP:127.0.0.1\nextendedKeyUsage={usage}\n")
        _openssl(folder, "x509", "-req", *_SIGNED_BY, "-in", f"{name}csr.pem", "-out", f"{name}cert.pem")


def tls_options(folder: Path) -> list[str]:
    """The options of a dockerd that identifies itself with these certificates and asks clients for theirs."""
    files = {"--tlscacert": "ca.pem", "--tlscert": "server-cert.pem", "--tlskey": "server-key.pem"}
    return ["--tlsverify", *(f"{option}={folder / name}" for option, name in files.items())]


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)

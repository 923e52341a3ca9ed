"""Certificates for an engine behind TLS: an authority, a server on 127.0.0.1 and a client, by openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path


def make(folder: Path) -> Path:
    """`ca.pem`, `server.pem`, `server.key`, and as the docker client wants them `cert.pem` and `key.pem`."""
    folder.mkdir()
    _openssl(folder, "req", "-x509", *_fresh("ca.key", "authority"), "-out", "ca.pem", "-days", "2")
    for key, certificate, use in (("server.key", "server.pem", "serverAuth"), ("key.pem", "cert.pem", "clientAuth")):
        _openssl(folder, "req", *_fresh(key, use), "-out", "request")
        (folder / "extensions").write_text(f"subjectAltName = IP:127.0.0.1\nextendedKeyUsage = {use}\n")
        _openssl(folder, "x509", "-req", "-in", "request", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                 "-days", "2", "-extfile", "extensions", "-out", certificate)  # fmt: skip
    return folder


def _fresh(key: str, name: str) -> list[str]:
    return ["-newkey", "rsa:2048", "-nodes", "-keyout", key, "-subj", f"/CN={name}"]


def _openssl(folder: Path, *args: str) -> None:
    subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)

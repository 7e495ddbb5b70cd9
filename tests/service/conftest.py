"""Fixtures for the tests of the service's modules."""

import subprocess
from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def certificate(require_tool: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Return the files of a fresh self-signed certificate for localhost and of its key."""
    openssl = require_tool("openssl", "TLS to Connect with a trusted and an untrusted certificate")
    folder = tmp_path_factory.mktemp("tls")
    files = str(folder / "certificate.pem"), str(folder / "key.pem")
    arguments = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    extension = ["-addext", "subjectAltName=DNS:localhost", "-out", files[0], "-keyout", files[1]]
    subprocess.run([openssl, *arguments, *extension], check=True, capture_output=True)
    return files

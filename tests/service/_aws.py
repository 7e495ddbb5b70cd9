"""A machine without any AWS configuration, whatever the developer's own says."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from botocore.utils import ContainerMetadataFetcher


@contextmanager
def no_aws_configuration() -> Iterator[None]:
    """Take every variable of AWS and every file that boto3 would read out of sight, for as long as the body runs."""
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            environment.delenv(name)
        environment.setenv("AWS_CONFIG_FILE", os.devnull)
        environment.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield


class Environment:
    """The variables and the files of one test; nothing of the developer's own configuration is left in it."""

    def __init__(self, patch: pytest.MonkeyPatch, home: Path) -> None:
        self._patch = patch
        self.home = home
        self.config = home / "config"
        self.credentials = home / "credentials"

    def set(self, variables: Mapping[str, str]) -> None:
        """Set these variables."""
        for name, value in variables.items():
            self._patch.setenv(name, value)


def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Environment:
    """Return the test's own: the developer's configuration and the instance metadata are kept out."""
    proxies = {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"}
    for name in list(os.environ):
        if name.startswith("AWS_") or name.upper() in proxies:
            monkeypatch.delenv(name)
    found = Environment(monkeypatch, tmp_path)
    found.set(
        {
            "HOME": str(tmp_path),
            "AWS_CONFIG_FILE": str(found.config),
            "AWS_SHARED_CREDENTIALS_FILE": str(found.credentials),
            "AWS_EC2_METADATA_DISABLED": "true",
        }
    )
    monkeypatch.setattr(ContainerMetadataFetcher, "SLEEP_TIME", 0)
    return found

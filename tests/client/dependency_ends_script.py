"""What an installed client must be able to do: run by test_dependency_ends.py in an otherwise empty environment.

Usage: python dependency_ends_script.py TARGET. TARGET succeeds and fails by turns. Prints versions and places as JSON.
"""

import asyncio
import importlib.metadata
import json
import platform
import sys
from importlib.resources import files

import monitor_contact_client
from monitor_contact_client import (
    AsyncMonitorContactClient,
    Capability,
    FixRequest,
    MonitorContactClient,
    ValidationFailed,
)

DISTRIBUTIONS = ("googleapis-common-protos", "grpcio", "grpcio-status", "protobuf")


def check(error: FixRequest) -> None:
    """Make sure that the details arrived whole."""
    assert type(error) is ValidationFailed, error
    assert [each.reason for each in error.violations] == ["REQUIRED"], error
    assert (error.request_id, error.client_token) == ("request-1", "token"), error


def blocking(target: str) -> None:
    """Make one call that succeeds and one that fails."""
    with MonitorContactClient(target) as client:
        session = client.monitor_contact(
            instance_id="i", contact_id="c", user_id="u", capabilities=[Capability.SILENT_MONITOR], client_token="token"
        )
        assert session.request_id == "request-1", session
        try:
            client.monitor_contact(instance_id="", contact_id="c", user_id="u", client_token="token")
        except FixRequest as error:
            check(error)
        else:
            raise AssertionError("no error")


async def in_asyncio(target: str) -> None:
    """Make one call that succeeds and one that fails."""
    async with AsyncMonitorContactClient(target) as client:
        session = await client.monitor_contact(
            instance_id="i", contact_id="c", user_id="u", capabilities=[Capability.SILENT_MONITOR], client_token="token"
        )
        assert session.request_id == "request-1", session
        try:
            await client.monitor_contact(instance_id="", contact_id="c", user_id="u", client_token="token")
        except FixRequest as error:
            check(error)
        else:
            raise AssertionError("no error")


if __name__ == "__main__":
    blocking(sys.argv[1])
    asyncio.run(in_asyncio(sys.argv[1]))
    assert files("monitor_contact_client").joinpath("py.typed").is_file()
    report = {name: importlib.metadata.version(name) for name in DISTRIBUTIONS}
    report |= {"python": platform.python_version(), "place": str(monitor_contact_client.__file__)}
    print(json.dumps(report))  # noqa: T201 - read by the test

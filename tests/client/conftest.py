"""Every test that takes `kind` runs once for the blocking and once for the asyncio client."""

import pytest

from client.twins import KINDS, Kind


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Name the client that this run of the test is about."""
    chosen: Kind = request.param
    return chosen

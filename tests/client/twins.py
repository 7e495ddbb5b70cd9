"""The blocking and the asyncio client behind one asyncio face, so that one table of tests drives both."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Literal, Protocol, TypeAlias, TypedDict, Unpack

from monitor_contact_client import (
    AsyncMonitorContactClient,
    Capability,
    Metadata,
    MonitorContactClient,
    MonitoringSession,
    TlsOptions,
)
from monitor_contact_client._channel import BearerToken, ChannelOption

Kind: TypeAlias = Literal["blocking", "asyncio"]
KINDS: tuple[Kind, ...] = ("blocking", "asyncio")
APART: ChannelOption = ("grpc.use_local_subchannel_pool", 1)  # no connection, backoff or throttle shared between tests


class CallOptions(TypedDict, total=False):
    """The optional arguments of a call."""

    instance_id: str
    contact_id: str
    user_id: str
    capabilities: Iterable[Capability]
    client_token: str | None
    timeout_seconds: float | None
    metadata: Metadata


class ClientOptions(TypedDict, total=False):
    """The optional arguments of both constructors."""

    tls: TlsOptions | None
    insecure: bool
    bearer_token: BearerToken | None
    timeout_seconds: float
    retries: bool
    watch_health: bool
    user_agent: str | None
    channel_options: Iterable[ChannelOption]


class Twin(Protocol):
    """Either client."""

    async def call(self, **options: Unpack[CallOptions]) -> MonitoringSession:
        """Make a call; identifiers have defaults."""
        ...

    async def close(self) -> None:
        """Close the client."""
        ...


def _filled(options: CallOptions) -> CallOptions:
    return {"instance_id": "instance", "contact_id": "contact", "user_id": "supervisor", **options}


class BlockingTwin:
    """The blocking client, called in a thread."""

    def __init__(self, client: MonitorContactClient) -> None:
        self.client = client

    async def call(self, **options: Unpack[CallOptions]) -> MonitoringSession:
        """Make a call."""
        return await asyncio.to_thread(lambda: self.client.monitor_contact(**_filled(options)))

    async def close(self) -> None:
        """Close the client."""
        await asyncio.to_thread(self.client.close)


class AsyncioTwin:
    """The asyncio client as it is."""

    def __init__(self, client: AsyncMonitorContactClient) -> None:
        self.client = client

    async def call(self, **options: Unpack[CallOptions]) -> MonitoringSession:
        """Make a call."""
        return await self.client.monitor_contact(**_filled(options))

    async def close(self) -> None:
        """Close the client."""
        await self.client.close()


def twin(kind: Kind, target: str, **options: Unpack[ClientOptions]) -> Twin:
    """Make a client of the kind."""
    options["channel_options"] = (APART, *options.get("channel_options", ()))
    if kind == "blocking":
        return BlockingTwin(MonitorContactClient(target, **options))
    return AsyncioTwin(AsyncMonitorContactClient(target, **options))


@contextlib.asynccontextmanager
async def connected(kind: Kind, target: str, **options: Unpack[ClientOptions]) -> AsyncIterator[Twin]:
    """Make a client of the kind and close it afterwards."""
    client = twin(kind, target, **options)
    try:
        yield client
    finally:
        await client.close()

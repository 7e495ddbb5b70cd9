"""What the tests of step 1 and of TLS share: a bare server that answers who called, and a mounted secret on disk."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
from certificates import Authority, Leaf
from monitor_contact_service.authentication import Authenticator
from monitor_contact_service.core.failures import Failure
from monitor_contact_service.tls import TlsFiles

METHOD: Final = "/tests.Identity/Who"


@dataclass
class Who:
    """A running server: its port, and of each call that reached it gRPC's auth context and the peer's address."""

    port: int = 0
    contexts: list[dict[str, tuple[bytes, ...]]] = field(default_factory=list)
    peers: list[str] = field(default_factory=list)

    @property
    def target(self) -> str:
        """Return the name that the server's certificates have."""
        return f"localhost:{self.port}"


@asynccontextmanager
async def answering(
    authenticator: Authenticator, credentials: grpc.ServerCredentials, options: Sequence[tuple[str, int]] = ()
) -> AsyncIterator[Who]:
    """Yield a server whose one method returns the id of the caller; UNAUTHENTICATED says which rule was broken."""
    who = Who()

    async def answer(_: bytes, context: Any) -> bytes:
        who.contexts.append({key: tuple(value) for key, value in context.auth_context().items()})
        who.peers.append(context.peer())
        try:
            return authenticator.caller(context).principal.id.encode()
        except Failure as failure:
            await context.abort(grpc.StatusCode[failure.reason], failure.log_text)
            raise

    server = grpc.aio.server(options=options)
    method: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("tests.Identity", {"Who": method}),))
    who.port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield who
    finally:
        await server.stop(0)


@asynccontextmanager
async def channel(who: Who, server_ca: Authority, leaf: Leaf | None = None) -> AsyncIterator[grpc.aio.Channel]:
    """Yield a channel with a connection of its own that shows `leaf`, or nothing."""
    shown = (leaf.key, leaf.certificate) if leaf else (None, None)
    credentials = grpc.ssl_channel_credentials(server_ca.certificate, *shown)
    # An address of its own: a channel that fails to connect must not make others back off.
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(who.target, credentials, options=options) as opened:
        yield opened


async def ask(opened: grpc.aio.Channel, metadata: Sequence[tuple[str, str]] = ()) -> str:
    """Return the caller's id, or the name of the status that it gets instead; UNAUTHENTICATED with the rule."""
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = opened.unary_unary(METHOD)
    try:
        answer = await call(b"", metadata=tuple(metadata), timeout=10)
    except grpc.aio.AioRpcError as error:
        refused = error.code() is grpc.StatusCode.UNAUTHENTICATED
        return f"UNAUTHENTICATED: {error.details()}" if refused else error.code().name
    return answer.decode()


class MountedSecret:
    """A folder as Kubernetes mounts a secret: links through `..data`, which one rename points to another version."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._version = 0
        for name in ("tls.crt", "tls.key", "ca.crt"):
            (folder / name).symlink_to(Path("..data") / name)

    @property
    def files(self) -> TlsFiles:
        """Return the paths that a service would be given."""
        return TlsFiles(*(str(self._folder / name) for name in ("tls.crt", "tls.key", "ca.crt")))

    def publish(self, leaf: Leaf, client_ca: bytes) -> None:
        """Swap all three files at once."""
        self._version += 1
        version = self._folder / f"..{self._version}"
        version.mkdir()
        leaf.write(version)
        (version / "ca.crt").write_bytes(client_ca)
        link = self._folder / "..data_tmp"
        link.symlink_to(version.name)
        link.rename(self._folder / "..data")

"""A service that knows its callers: certificates, access file, policy and audit in a folder, and how to call it.

The company has two tenants: `corp` owns the simulator's instance `main`, `other` owns `plain`; `unlinked` is nobody's.
"""

import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import harness
from certificates import Authority, Leaf
from e2e.processes import ServiceProcess, SimulatorProcess, serve, until
from issuers import ISSUER, end_user_claims, key_pair, key_set
from monitor_contact_client import AsyncMonitorContactClient, Capability, MonitorContactError, TlsOptions
from monitor_contact_service.simulator import default_world

WORLD: Final = default_world()
DESK: Final = "spiffe://corp.example/qa-desk"  # may listen and barge
LISTENER: Final = "spiffe://corp.example/listener"  # may listen
ROLELESS: Final = "spiffe://corp.example/roleless"
UNKNOWN: Final = "spiffe://corp.example/unknown"  # of a trusted domain, and not in the access file
STRANGER: Final = "spiffe://elsewhere.example/qa-desk"

ACCESS: Final = f"""\
trust_domains = ["corp.example"]

[[issuers]]
issuer = "{ISSUER}"
identifies = "end-users"
audience = "monitor-contact"
keys = "KEYS"

[instances."{WORLD.instances["main"].id}"]
tenant = "corp"

[instances."{WORLD.instances["plain"].id}"]
tenant = "other"

[callers."{DESK}"]
roles = ["qa"]
tenant = "corp"

[callers."{LISTENER}"]
roles = ["listeners"]
tenant = "corp"

[callers."{ROLELESS}"]
tenant = "corp"
"""
POLICY: Final = """\
@id("qa-monitors")
permit (principal in MonitorContact::Role::"qa", action in MonitorContact::Action::"Monitor", resource);

@id("listeners-listen")
permit (
  principal in MonitorContact::Role::"listeners",
  action == MonitorContact::Action::"SilentMonitor",
  resource
);
"""
# The reads' pace is no subject of these tests.
UNPACED_READS: Final[Mapping[str, str]] = {
    "MONITOR_CONTACT_READ_QUOTA_RATE": "50000",
    "MONITOR_CONTACT_READ_QUOTA_BURST": "50000",
}
READS: Final = ("DescribeUser", "ListSecurityProfilePermissions", "DescribeSecurityProfile", "GetCurrentUserData")

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended: OK, the reason, or the code where gRPC itself has refused. `request_id` is "" then."""

    reason: str
    request_id: str
    contact_id: str = ""


def person_token(connect_user: str | None, *, number: int = 0, **changes: object) -> str:
    """Return a token of a person who is that user in Connect; another `number` is another key than the issuer's."""
    now = int(time.time())
    claims = {"iat": now, "exp": now + 600, "connect_user_id": connect_user, **changes}
    return key_pair(number=number).token(end_user_claims(**claims))


def issuer_keys() -> bytes:
    """Return what the issuer of these tokens publishes."""
    return key_set(key_pair(number=0))


class Company:
    """The files of a service in a folder of their own, and whatever its callers show."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server_ca, self.client_ca = Authority("services"), Authority("callers")
        self.server = self.server_ca.leaf(dns_names=["localhost"])
        self.server.write(folder, "server")
        (folder / "server-ca.pem").write_bytes(self.server_ca.certificate)
        (folder / "client-ca.pem").write_bytes(self.client_ca.certificate)
        (folder / "keys.json").write_bytes(issuer_keys())
        self.policy, self.access = folder / "policy.cedar", folder / "access.toml"
        self.policy.write_text(POLICY, encoding="utf-8")
        self.write_access(ACCESS)

    @property
    def audit(self) -> Path:
        """The file of the records."""
        return self.folder / "audit" / "audit.jsonl"

    @property
    def environment(self) -> Mapping[str, str]:
        """All that makes a service ask who calls, and everything else that may be asked."""
        return {
            "MONITOR_CONTACT_TLS_CERT_FILE": str(self.folder / "server.crt"),
            "MONITOR_CONTACT_TLS_KEY_FILE": str(self.folder / "server.key"),
            "MONITOR_CONTACT_TLS_CLIENT_CA_FILE": str(self.folder / "client-ca.pem"),
            "MONITOR_CONTACT_ACCESS_FILE": str(self.access),
            "MONITOR_CONTACT_POLICY_FILE": str(self.policy),
            "MONITOR_CONTACT_SUPERVISOR_CHECK": "enforce",
            "MONITOR_CONTACT_AUDIT": str(self.audit),
            **UNPACED_READS,
        }

    def write_access(self, text: str) -> None:
        """Put this into the access file; KEYS stands for the path of the issuer's keys."""
        self.access.write_text(text.replace("KEYS", str(self.folder / "keys.json")), encoding="utf-8")

    @cached_property
    def desk(self) -> Leaf:
        """The certificate of the caller who may do most."""
        return self.leaf(DESK)

    def leaf(self, spiffe_id: str) -> Leaf:
        """Return a certificate of a caller, by the right CA."""
        return self.client_ca.leaf(uris=[spiffe_id])

    def records(self) -> list[Record]:
        """Return what is recorded so far, without the room that is reserved behind it."""
        lines = self.audit.read_bytes().rstrip(b"\0").split(b"\n")
        return [json.loads(line) for line in lines[:-1]]

    async def recorded(self, request_id: str, stage: str) -> Record:
        """Return the record of a call, once it is there: denials are written behind the answer."""
        found: list[Record] = []

        def is_there() -> bool:
            found[:] = [each for each in self.records() if each["id"] == request_id and each["stage"] == stage]
            return bool(found)

        await until(is_there)
        assert len(found) == 1, found
        return found[0]


@dataclass(frozen=True, slots=True)
class Service:
    """The company's service in front of a simulator."""

    company: Company
    process: ServiceProcess
    simulator: SimulatorProcess

    @property
    def target(self) -> str:
        """Return the name that the server's certificate has."""
        return f"localhost:{self.process.target.rpartition(':')[2]}"

    async def call(
        self,
        leaf: Leaf | None,
        *,
        capabilities: Sequence[Capability] = (),
        end_user_token: str | None = None,
        bearer_token: str | None = None,
        instance_id: str = harness.INSTANCE_ID,
        contact_id: str = harness.CONTACT_ID,
        user_id: str = harness.USER_ID,
    ) -> Outcome:
        """Make the valid call, unless another is given, on a connection of its own that shows `leaf`, or nothing."""
        tls = TlsOptions(
            root_certificates=self.company.server_ca.certificate,
            client_certificate=leaf.certificate if leaf else None,
            client_key=leaf.key if leaf else None,
        )
        own_connection = [("grpc.use_local_subchannel_pool", 1)]
        async with AsyncMonitorContactClient(
            self.target, tls=tls, bearer_token=bearer_token, retries=False, channel_options=own_connection
        ) as client:
            try:
                session = await client.monitor_contact(
                    instance_id=instance_id,
                    contact_id=contact_id,
                    user_id=user_id,
                    capabilities=capabilities,
                    end_user_token=end_user_token,
                )
            except MonitorContactError as error:
                reason = error.reason.name if error.reason else error.code.name
                return Outcome(reason, error.request_id or "")
        return Outcome("OK", session.request_id or "", session.contact_id)


@asynccontextmanager
async def served(
    company: Company, simulator: SimulatorProcess, settings: Mapping[str, str] | None = None
) -> AsyncIterator[Service]:
    """Yield the company's service, serving, in front of a simulator without limits."""
    await simulator.lift_limits()
    for api in READS:
        await simulator.control("PUT", "quota", {"api": api, "rate": 1e9, "burst": 1e9})
    async with serve({**simulator.environment, **company.environment, **(settings or {})}) as process:
        await process.serving()
        yield Service(company, process, simulator)

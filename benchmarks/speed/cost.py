"""Measures what it costs to know and record who may listen: `cost.py`, or `cost.py --check`.

The service with everything on (mTLS, policy file, supervisor check, audit on disk) and without any of it are loaded in
turn, in rounds. The bar stands in docs/speed.md. Needs nginx, Linux and about a minute; ends by itself. The folder of
the audit must be on the disk that counts: `--folder`.
"""

import argparse
import json
import signal
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import servers
from callers import INSTANCE_ID
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from rounds import SINGLE_CALLS, Caller, Contest, Figures, caller, measure
from run import machine

ROUNDS = 30
SECONDS = 120.0
LOAD_CALLS = 960
LIMIT_MICROSECONDS = 150.0

CALLER_ID = "spiffe://corp.example/qa-desk"
# As in docs/examples, but at any hour.
POLICY = f"""
@id("qa-listens")
permit (
  principal in MonitorContact::Role::"qa",
  action == MonitorContact::Action::"SilentMonitor",
  resource in MonitorContact::Instance::"{INSTANCE_ID}"
)
when {{ context.weekday <= 7 && context.minute_of_day >= 0 && context.minute_of_day < 1440 }};

@id("coaches-with-a-ticket")
permit (
  principal in MonitorContact::Role::"coach",
  action in MonitorContact::Action::"Monitor",
  resource
)
when {{ context has ticket && context.ticket like "COACH-*" }};

@id("no-barge-without-a-reason")
forbid (
  principal,
  action == MonitorContact::Action::"Barge",
  resource
)
unless {{ context has reason && context.reason != "" }};
"""
ACCESS = """
trust_domains = {trust_domains}

[callers."{caller_id}"]
roles = ["qa"]
tenant = "corp"

[instances."{instance_id}"]
tenant = "corp"
"""


@dataclass(frozen=True, slots=True)
class Contestant:
    """A server under measurement, and its two callers."""

    server_id: int
    load: Caller
    single: Caller


class Servers(Contest):
    """All running processes, by the name of the server."""

    def __init__(self, contestants: Mapping[str, Contestant], nginx_id: int) -> None:
        ids = [(each.server_id, each.load.process_id, each.single.process_id) for each in contestants.values()]
        super().__init__({nginx_id, *(process_id for several in ids for process_id in several)})
        self._contestants = contestants

    def measured(self) -> Figures:
        """Measure each server once: µs of its CPU per call, loaded and with one call at a time, and µs of that."""
        figures: dict[str, float] = {}
        for name, each in self._contestants.items():
            for kind, caller_, calls in (("loaded", each.load, LOAD_CALLS), ("single", each.single, SINGLE_CALLS)):
                before = servers.cpu_seconds(each.server_id)
                report = caller_.make(calls)
                used = servers.cpu_seconds(each.server_id) - before
                figures[f"{name}.{kind}"] = used / report.calls * 1e6
                figures[f"{name}.{kind}.median"] = report.median_seconds * 1e6
                figures[f"{name}.{kind}.generator"] = report.cpu_seconds / report.seconds
        return figures


ROWS = {
    "unguarded": "no identity, policy, supervisor check and audit; plain text",
    "plain": "all but TLS: policy, supervisor check, audit; plain text",
    "guarded": "everything on: mTLS, policy, supervisor check, audit",
}


@contextmanager
def contestants(folder: Path) -> Iterator[Servers]:
    """Start everything, and stop everything at the end."""
    write_certificates(folder)
    (folder / "policy.cedar").write_text(POLICY)
    for name, trust_domains, caller_id in (("guarded", '["corp.example"]', CALLER_ID), ("plain", "[]", "anonymous")):
        text = ACCESS.format(trust_domains=trust_domains, caller_id=caller_id, instance_id=INSTANCE_ID)
        (folder / f"{name}.toml").write_text(text)
    with ExitStack() as stack:
        upstream, nginx_id = stack.enter_context(servers.nginx(folder))
        started = {}
        for name in ROWS:
            running = (
                servers.unguarded_service(upstream, folder)
                if name == "unguarded"
                else servers.our_service(upstream, folder, name=name, variables=_variables(name, folder))
            )
            target, server_id = stack.enter_context(running)
            tls = [str(folder)] if name == "guarded" else []
            load, single = (
                stack.enter_context(caller([kind, target, *tls], upstream, {})) for kind in ("load", "stub")
            )
            started[name] = Contestant(server_id, load, single)
        yield Servers(started, nginx_id)


def _variables(name: str, folder: Path) -> Mapping[str, str]:
    decided = {"MONITOR_CONTACT_ACCESS_FILE": f"{name}.toml", "MONITOR_CONTACT_POLICY_FILE": "policy.cedar"}
    encrypted = {
        "MONITOR_CONTACT_TLS_CERT_FILE": "server.crt",
        "MONITOR_CONTACT_TLS_KEY_FILE": "server.key",
        "MONITOR_CONTACT_TLS_CLIENT_CA_FILE": "ca.crt",
    }
    files = {**decided, **encrypted} if name == "guarded" else decided
    return {variable: str(folder / file) for variable, file in files.items()}


def write_certificates(folder: Path) -> None:
    """Write a CA, and a server's and a client's certificate of it with their keys: P-256, for a day."""
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "benchmark CA")])

    def certificate(subject: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType) -> bytes:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(ca_name, subject, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(minutes=1)).not_valid_after(now + timedelta(days=1))
        signed = builder.add_extension(extension, critical=True).sign(ca_key, SHA256())
        return signed.public_bytes(Encoding.PEM)

    names: Mapping[str, Sequence[x509.GeneralName]] = {
        "server": [x509.DNSName("localhost"), x509.IPAddress(IPv4Address(servers.HOST))],
        "client": [x509.UniformResourceIdentifier(CALLER_ID)],
    }
    (folder / "ca.crt").write_bytes(certificate(ca_name, ca_key, x509.BasicConstraints(ca=True, path_length=None)))
    for owner, alternatives in names.items():
        key = ec.generate_private_key(ec.SECP256R1())
        pem = certificate(x509.Name([]), key, x509.SubjectAlternativeName(alternatives))
        (folder / f"{owner}.crt").write_bytes(pem)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / f"{owner}.key").write_bytes(private)


def main() -> int:
    """Measure, print the table, and return the exit code."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the child processes are stopped then too
    try:
        with (
            tempfile.TemporaryDirectory(prefix="monitor-contact-cost-", dir=arguments.folder) as folder,
            contestants(Path(folder)) as running,
        ):
            made = measure(running, rounds=arguments.rounds, seconds=arguments.seconds)
    except servers.NotReadyError as error:
        sys.stderr.write(f"cost: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(made, indent=1))
    found = added(made, "guarded", "loaded")
    met = found <= LIMIT_MICROSECONDS
    bar = f"{'met   ' if met else 'MISSED'}  everything on, loaded: {found:+.0f} µs CPU per call, "
    print(
        machine(made, "guarded.loaded.generator"),
        *table(made),
        "",
        f"{bar}wanted at most {LIMIT_MICROSECONDS:.0f}",
        sep="\n",
    )
    return 1 if arguments.check and not met else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit with 1 if the bar is missed")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"how many, the quietest (default {ROUNDS})")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"no round after this (default {SECONDS:g})")
    parser.add_argument("--folder", help="where to write, the audit too; /tmp, the default, may be memory")
    parser.add_argument("--json", metavar="FILE", help="write the figures of each round too")
    return parser.parse_args()


def added(made: Sequence[Figures], name: str, kind: str) -> float:
    """Return the median over the rounds of what one server takes more than the unguarded one in the same round."""
    return statistics.median(figures[f"{name}.{kind}"] - figures[f"unguarded.{kind}"] for figures in made)


def table(made: Sequence[Figures]) -> list[str]:
    """Return the lines of a markdown table."""
    lines = [
        "| server CPU per call, µs | loaded | more | ratio | one at a time | more | median of a call, one at a time |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, title in ROWS.items():
        loaded, single, wait = (
            statistics.median(figures[f"{name}.{kind}"] for figures in made)
            for kind in ("loaded", "single", "single.median")
        )
        ratio = statistics.median(figures[f"{name}.loaded"] / figures["unguarded.loaded"] for figures in made)
        more, more_single = added(made, name, "loaded"), added(made, name, "single")
        lines.append(
            f"| {title} | {loaded:,.0f} | {more:+,.0f} | {ratio:.2f} | {single:,.0f} | {more_single:+,.0f} "
            f"| {wait:,.0f} |"
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())

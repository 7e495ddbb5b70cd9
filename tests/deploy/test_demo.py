"""The demo's two containers, as processes of this machine: what the manifest tells them is enough for a session."""

from pathlib import Path

import grpc.aio
import harness
from deploy.manifests import Manifests, rendered
from e2e.processes import WITHIN_SECONDS, free_port, run, serve, simulate
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub


async def _probes(installation: Manifests, target: str) -> dict[str, HealthCheckResponse.ServingStatus]:
    """Return what the kubelet would be answered."""
    answers = {}
    async with grpc.aio.insecure_channel(target) as channel:
        stub = HealthStub(channel)  # type: ignore[no-untyped-call]  # generated
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            request = HealthCheckRequest(service=installation.service[probe]["grpc"]["service"])
            response = await stub.Check(request, timeout=WITHIN_SECONDS, wait_for_ready=True)
            answers[probe] = response.status
    return answers


async def test_the_demo_monitors_a_contact(tmp_path: Path) -> None:
    """Only addresses and the audit's folder are others than in the pod. Probes succeed, and the call is recorded."""
    installation = rendered("demo")
    (simulator_container,) = (each for each in installation.containers if each["args"] == ["simulate"])
    assert installation.environment(simulator_container).keys() == {"TMPDIR"}
    audit = tmp_path / "audit.jsonl"
    health = f"127.0.0.1:{free_port()}"
    async with simulate() as simulator:
        elsewhere = {
            "AWS_ENDPOINT_URL_CONNECT": simulator.url,
            "MONITOR_CONTACT_LISTEN": "127.0.0.1:0",
            "MONITOR_CONTACT_HEALTH_LISTEN": health,
            "MONITOR_CONTACT_METRICS_LISTEN": "127.0.0.1:0",
            "MONITOR_CONTACT_AUDIT": str(audit),
        }
        environment = installation.environment(installation.service)
        assert elsewhere.keys() < environment.keys()
        async with serve({**environment, **elsewhere}, quota={}) as service:
            await service.serving()
            assert set((await _probes(installation, health)).values()) == {HealthCheckResponse.SERVING}
            called = await run(
                "call",
                f"--target={service.target}",
                f"--instance-id={harness.INSTANCE_ID}",
                f"--contact-id={harness.CONTACT_ID}",
                f"--user-id={harness.USER_ID}",
            )
            assert called.exit_code == 0, called.out + called.err
            assert audit.read_text("utf-8").count('"stage":"outcome"') == 1

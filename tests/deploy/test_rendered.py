"""The committed manifests keep every rule; for these nothing has to be installed. Their sources are tools' matter."""

import pytest
from deploy.manifests import KUBERNETES, OVERLAYS, RENDERED, rendered
from deploy.rules import Rule, of_overlay
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from monitor_contact_service.access import read_access
from monitor_contact_service.health import Health
from monitor_contact_service.policy_files import load_policies
from monitor_contact_service.server import SERVICE

PRODUCTION = KUBERNETES / "overlays" / "production"


@pytest.mark.parametrize(
    ("overlay", "rule"),
    [pytest.param(name, rule, id=f"{name}-{rule.__name__}") for name in OVERLAYS for rule in of_overlay(name)],
)
def test_an_overlay_keeps_the_rule(overlay: str, rule: Rule) -> None:
    """Each rule says in its docstring what it asks for."""
    assert not list(rule(rendered(overlay)))


def test_every_overlay_is_rendered() -> None:
    """None is left out, and no file is left over."""
    assert {path.stem for path in RENDERED.iterdir()} == set(OVERLAYS)


@pytest.mark.parametrize("overlay", OVERLAYS)
async def test_the_probes_ask_for_what_the_service_answers(overlay: str) -> None:
    """Alive and ready: SERVING; in a drain: not ready, and alive, or the kubelet would kill it. Unknown names abort."""
    container = rendered(overlay).service
    asked = {name: container[name]["grpc"]["service"] for name in ("livenessProbe", "startupProbe", "readinessProbe")}
    health = Health([SERVICE])

    async def answers() -> dict[str, HealthCheckResponse.ServingStatus]:
        responses = {
            probe: await health.Check(HealthCheckRequest(service=name), None)  # type: ignore[arg-type]  # not used
            for probe, name in asked.items()
        }
        return {probe: response.status for probe, response in responses.items()}

    health.set_alive()
    health.set_ready(True)
    assert set((await answers()).values()) == {HealthCheckResponse.SERVING}
    health.drain()
    assert await answers() == {
        "livenessProbe": HealthCheckResponse.SERVING,
        "startupProbe": HealthCheckResponse.SERVING,
        "readinessProbe": HealthCheckResponse.NOT_SERVING,
    }


def test_the_examples_of_access_and_policy_are_such() -> None:
    """What an operator begins with is read without a complaint and identifies callers by certificate."""
    assert read_access(str(PRODUCTION / "access.toml")).identifies_by_certificate
    assert load_policies(str(PRODUCTION / "policy.cedar")).policies.sha256

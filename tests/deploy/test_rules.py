"""Every rule sees what it is there for: production as it is committed, broken in one place."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, Final

import pytest
from deploy.manifests import OVERLAYS, Manifests, rendered
from deploy.rules import Rule, of_overlay

from deploy import pod_rules, settings_rules, wiring_rules

Break = Callable[[Manifests], object]


def _pod(**fields: object) -> Break:
    return lambda broken: broken.pod.update(fields)


def _service(**fields: object) -> Break:
    return lambda broken: broken.service.update(fields)


def _of(kind: str, **fields: object) -> Break:
    """Change the spec of the last document of a kind."""
    return lambda broken: [*broken.of(kind)][-1]["spec"].update(fields)


def _setting(**variables: str) -> Break:
    """Change what the ConfigMap of the settings says; an empty value takes it away."""

    def change(broken: Manifests) -> None:
        (data,) = (each["data"] for each in broken.of("ConfigMap") if "AWS_REGION" in each["data"])
        data.update(variables)
        for name in [name for name, value in data.items() if not value]:
            del data[name]

    return change


def _volume(name: str, **kind: object) -> Break:
    def change(broken: Manifests) -> None:
        broken.pod["volumes"] = [each for each in broken.pod["volumes"] if each["name"] != name]
        broken.pod["volumes"].append({"name": name, **kind})

    return change


def _policy(name: str, **fields: object) -> Break:
    def change(broken: Manifests) -> None:
        (policy,) = (each for each in broken.of("NetworkPolicy") if each["metadata"]["name"] == name)
        policy["spec"].update(fields)

    return change


def _without(kind: str, name: str) -> Break:
    return lambda broken: broken.documents.remove(
        next(each for each in broken.of(kind) if each["metadata"]["name"] == name)
    )


def _rename(kind: str, name: str) -> Break:
    return lambda broken: next(broken.of(kind))["metadata"].update(name=name)


_SECURITY: Final[Mapping[str, Any]] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
_MEMORY: Final = {"requests": {"cpu": "250m", "memory": "256Mi"}, "limits": {"memory": "256Mi"}}
_SCRAPER: Final = {
    "from": [{"namespaceSelector": {"matchLabels": {"x": "y"}}}],
    "ports": [{"protocol": "TCP", "port": 9090}],
}
_GRPC: Final = {"name": "grpc", "containerPort": 8443}

BROKEN: Final[list[tuple[str, Rule, Break]]] = [
    ("pod as root", pod_rules.restricted, _pod(securityContext={"runAsUser": 0})),
    ("host network", pod_rules.restricted, _pod(hostNetwork=True)),
    ("host path", pod_rules.restricted, _volume("x", hostPath={"path": "/"})),
    (
        "more privileges",
        pod_rules.restricted,
        _service(securityContext={**_SECURITY, "allowPrivilegeEscalation": True}),
    ),
    ("capability", pod_rules.restricted, _service(securityContext={**_SECURITY, "capabilities": {}})),
    ("writable root", pod_rules.restricted, _service(securityContext={**_SECURITY, "readOnlyRootFilesystem": False})),
    ("container as root", pod_rules.restricted, _service(securityContext={**_SECURITY, "runAsUser": 0})),
    ("port of the node", pod_rules.restricted, _service(ports=[{**_GRPC, "hostPort": 8443}])),
    ("boundless volume", pod_rules.scratch, _volume("tmp", emptyDir={})),
    ("no TMPDIR", pod_rules.scratch, _service(env=[])),
    ("subPath", pod_rules.scratch, _service(volumeMounts=[{"name": "tmp", "mountPath": "/tmp", "subPath": "x"}])),  # noqa: S108
    ("CPU limit", pod_rules.resources, _service(resources={**_MEMORY, "limits": {"cpu": "1", "memory": "256Mi"}})),
    ("memory overcommitted", pod_rules.resources, _service(resources={**_MEMORY, "limits": {"memory": "1Gi"}})),
    (
        "no quantity",
        pod_rules.resources,
        _service(resources={"requests": {"cpu": "12xyz", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}),
    ),
    ("service links", pod_rules.links_and_tokens, _pod(enableServiceLinks=True)),
    ("token", pod_rules.links_and_tokens, _pod(automountServiceAccountToken=True)),
    ("other account", pod_rules.links_and_tokens, _pod(serviceAccountName="default")),
    (
        "probe of another name",
        pod_rules.probes,
        _service(readinessProbe={"grpc": {"port": 8081, "service": "liveness"}}),
    ),
    ("probe of another port", pod_rules.probes, _setting(MONITOR_CONTACT_HEALTH_LISTEN="0.0.0.0:8082")),
    (
        "slow probe",
        pod_rules.probes,
        _service(readinessProbe={"grpc": {"port": 8081, "service": "readiness"}, "timeoutSeconds": 2}),
    ),
    ("no spread", pod_rules.availability, _pod(topologySpreadConstraints=[])),
    ("no budget", pod_rules.availability, _of("PodDisruptionBudget", maxUnavailable=0)),
    ("stuck nodes", pod_rules.availability, _of("PodDisruptionBudget", unhealthyPodEvictionPolicy="IfHealthyBudget")),
    ("fast rollout", pod_rules.availability, _of("Deployment", minReadySeconds=0)),
    ("autoscaler", pod_rules.availability, lambda broken: broken.documents.append({"kind": "HorizontalPodAutoscaler"})),
    ("illegal name", wiring_rules.names, _rename("Service", "Bad_Name!")),
    ("illegal port", wiring_rules.names, _of("Service", ports=[{"port": 99999, "targetPort": "grpc"}])),
    ("long port name", wiring_rules.names, _service(ports=[{"name": "a-name-of-17-char", "containerPort": 1}])),
    ("other port", wiring_rules.ports, _setting(MONITOR_CONTACT_METRICS_LISTEN="0.0.0.0:9091")),
    ("metrics on loopback", wiring_rules.ports, _setting(MONITOR_CONTACT_METRICS_LISTEN="127.0.0.1:9090")),
    ("Service of another port", wiring_rules.ports, _of("Service", ports=[{"port": 8443, "targetPort": "metrics"}])),
    ("PodMonitor of another port", wiring_rules.ports, _of("PodMonitor", podMetricsEndpoints=[{"port": "grpc"}])),
    ("not headless", wiring_rules.services, _of("Service", clusterIP="10.0.0.1")),
    ("no headless Service", wiring_rules.services, _without("Service", "monitor-contact-headless")),
    ("Service of others", wiring_rules.selectors, _of("Service", selector={"app": "x"})),
    ("budget of others", wiring_rules.selectors, _of("PodDisruptionBudget", selector={"matchLabels": {"app": "x"}})),
    ("policy of others", wiring_rules.selectors, _policy("monitor-contact", podSelector={"matchLabels": {"app": "x"}})),
    ("workload of others", wiring_rules.selectors, _of("Deployment", selector={"matchLabels": {"app": "x"}})),
    ("no ConfigMap", wiring_rules.references, _without("ConfigMap", "monitor-contact-policy")),
    ("unknown Secret", wiring_rules.references, _volume("tls", secret={"secretName": "x"})),
    (
        "unmounted file",
        wiring_rules.references,
        _setting(MONITOR_CONTACT_TLS_KEY_FILE="/etc/monitor-contact/tls/other.key"),
    ),
    ("no denial", wiring_rules.network, _without("NetworkPolicy", "default-deny")),
    (
        "health from anywhere",
        wiring_rules.network,
        _policy("monitor-contact", ingress=[{**_SCRAPER, "ports": [{"protocol": "TCP", "port": 8081}]}]),
    ),
    (
        "calls from anywhere",
        wiring_rules.network,
        _policy("monitor-contact", ingress=[_SCRAPER, {"ports": [{"protocol": "TCP", "port": 8443}]}]),
    ),
    ("out to anywhere", wiring_rules.network, _policy("monitor-contact", egress=[{}])),
    ("no way to Redis", wiring_rules.network, _without("NetworkPolicy", "monitor-contact-redis")),
    (
        "the node's metadata",
        wiring_rules.network,
        _policy("monitor-contact-redis", egress=[{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]),
    ),
    ("unknown setting", settings_rules.accepted, _setting(MONITOR_CONTACT_REPLICAS="3")),
    ("illegal setting", settings_rules.accepted, _setting(MONITOR_CONTACT_DRAIN_SECONDS="40 s")),
    ("open to everybody", settings_rules.accepted, _setting(MONITOR_CONTACT_POLICY_FILE="")),
    ("short drain", settings_rules.drain, _setting(MONITOR_CONTACT_DRAIN_SECONDS="38")),
    ("old connections", settings_rules.drain, _setting(MONITOR_CONTACT_MAX_CONNECTION_AGE_SECONDS="32")),
    ("short grace", settings_rules.drain, _pod(terminationGracePeriodSeconds=111)),
    ("long grace", settings_rules.drain, _pod(terminationGracePeriodSeconds=120)),
    ("another grace", settings_rules.drain, _setting(MONITOR_CONTACT_TERMINATION_GRACE_SECONDS="116")),
    ("untold grace", settings_rules.drain, _setting(MONITOR_CONTACT_TERMINATION_GRACE_SECONDS="")),
    ("longer deadlines", settings_rules.accepted, _setting(MONITOR_CONTACT_MAX_DEADLINE_SECONDS="90")),
    ("sleep on top", settings_rules.drain, _service(lifecycle={"preStop": {"sleep": {"seconds": 10}}})),
    ("more replicas", settings_rules.quota, _of("Deployment", replicas=4)),
    (
        "more at a time",
        settings_rules.quota,
        _of(
            "Deployment", strategy={"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "50%", "maxUnavailable": 0}}
        ),
    ),
    ("two drain at a time", settings_rules.quota, _of("Deployment", minReadySeconds=30)),
    (
        "static keys",
        settings_rules.keys,
        _setting(AWS_ACCESS_KEY_ID="AKIDSIMULATOR", AWS_SECRET_ACCESS_KEY="simulator-secret"),
    ),
    ("the node's role", settings_rules.keys, _setting(AWS_EC2_METADATA_DISABLED="")),
    ("password", settings_rules.passwords, _setting(MONITOR_CONTACT_QUOTA_URL="rediss://user:secret@redis.example")),
    ("unknown command", settings_rules.commands, _service(args=["simulate"])),
    ("audit in the pod", settings_rules.audit, _setting(MONITOR_CONTACT_AUDIT="/tmp/audit")),  # noqa: S108
    ("image by tag", settings_rules.image, _service(image="registry.example/monitor-contact:latest")),
    (
        "other namespace",
        settings_rules.namespace,
        lambda broken: broken.workload["metadata"].update(namespace="default"),
    ),
    (
        "loose namespace",
        settings_rules.namespace,
        lambda broken: next(broken.of("Namespace"))["metadata"].update(labels={}),
    ),
    ("no Region", settings_rules.region, _setting(AWS_REGION="")),
]


@pytest.mark.parametrize(("rule", "change"), [pytest.param(rule, change, id=name) for name, rule, change in BROKEN])
def test_a_rule_sees(rule: Rule, change: Break) -> None:
    """The manifests keep the rule until they are broken."""
    whole = rendered("production")
    broken = Manifests(copy.deepcopy(whole.documents))
    change(broken)

    assert not list(rule(whole))
    # What a property has remembered is from before the change.
    assert list(rule(Manifests(broken.documents)))


def test_every_rule_is_seen_to_fail() -> None:
    """A rule that nothing here breaks could be one that sees nothing."""
    everywhere = {rule for name in OVERLAYS for rule in of_overlay(name)}
    assert {rule for _, rule, _ in BROKEN} == everywhere

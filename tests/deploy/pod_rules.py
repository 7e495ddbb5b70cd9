"""Rules for the pods by themselves: what they may do to the node, what they use, how they are asked for their health.

Each rule yields a line for everything that breaks it.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

from deploy.manifests import Manifests
from monitor_contact_service.health import LIVENESS, READINESS

# Pod Security Standards, "restricted".
_VOLUMES: Final = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)
_HOST_FIELDS: Final = ("hostNetwork", "hostPID", "hostIPC")
_QUANTITY: Final = re.compile(r"(\d+m)|(\d+(\.\d+)?([kMGTPE]|[KMGTPE]i)?)")
_SHORTEST_READY_SECONDS: Final = 30  # gRPC clients resolve a name again at most this often


def restricted(installation: Manifests) -> Iterator[str]:
    """Whatever the standard "restricted" asks of a pod, and a root file system that nobody can write to."""
    pod = installation.pod
    security = pod.get("securityContext", {})
    yield from (f"{field} is set" for field in _HOST_FIELDS if pod.get(field))
    if security.get("runAsNonRoot") is not True:
        yield "the pod may run as root"
    if not security.get("runAsUser") or not security.get("runAsGroup"):
        yield "the pod has no numeric user and group other than 0"
    if security.get("seccompProfile", {}).get("type") not in {"RuntimeDefault", "Localhost"}:
        yield "the pod has no seccomp profile"
    if security.get("sysctls"):
        yield "the pod sets sysctls"
    for volume in pod.get("volumes", []):
        kinds = volume.keys() - {"name"}
        if not kinds <= _VOLUMES:
            yield f"volume {volume['name']}: {kinds} is not allowed"
    for container in installation.containers:
        yield from (f"{container['name']}: {problem}" for problem in _restricted_container(container))


def _restricted_container(container: dict[str, Any]) -> Iterator[str]:
    security = container.get("securityContext", {})
    if security.get("allowPrivilegeEscalation") is not False:
        yield "may get more privileges"
    if security.get("capabilities", {}).get("drop") != ["ALL"]:
        yield "keeps capabilities"
    if set(security.get("capabilities", {}).get("add", [])) - {"NET_BIND_SERVICE"}:
        yield "adds capabilities"
    if security.get("privileged") or security.get("procMount", "Default") != "Default":
        yield "is privileged or unmasks /proc"
    # What the pod says may not be taken back.
    if security.get("runAsUser") == 0 or security.get("runAsNonRoot") is False:
        yield "runs as root"
    if security.get("seccompProfile", {}).get("type") == "Unconfined":
        yield "has no seccomp profile"
    if any("hostPort" in port for port in container.get("ports", [])):
        yield "takes a port of the node"
    if security.get("readOnlyRootFilesystem") is not True:
        yield "can write to its root"


def scratch(installation: Manifests) -> Iterator[str]:
    """A read-only root needs a bounded TMPDIR, and no mount may be a subPath, which would never be updated."""
    bounded = {each["name"] for each in installation.pod["volumes"] if each.get("emptyDir", {}).get("sizeLimit")}
    for volume in installation.pod["volumes"]:
        if "emptyDir" in volume and volume["name"] not in bounded:
            yield f"volume {volume['name']} has no limit"
    for container in installation.containers:
        mounts = {mount["mountPath"]: mount["name"] for mount in container.get("volumeMounts", [])}
        if mounts.get(installation.environment(container).get("TMPDIR", "")) not in bounded:
            yield f"{container['name']}: TMPDIR is no bounded volume"
        if any("subPath" in mount or "subPathExpr" in mount for mount in container.get("volumeMounts", [])):
            yield f"{container['name']}: mounts a subPath"


def resources(installation: Manifests) -> Iterator[str]:
    """Memory is reserved as a whole; the CPU is asked for and never limited: one event loop must not be throttled."""
    for container in installation.containers:
        requests = container.get("resources", {}).get("requests", {})
        limits = container.get("resources", {}).get("limits", {})
        if "cpu" in limits:
            yield f"{container['name']}: has a CPU limit"
        if "cpu" not in requests or "memory" not in requests or requests["memory"] != limits.get("memory"):
            yield f"{container['name']}: asks for no CPU, or for other memory than its limit"
        quantities = [*requests.values(), *limits.values()]
        yield from (f"{container['name']}: {each} is no quantity" for each in quantities if not _is_quantity(each))
    for claim in installation.workload["spec"].get("volumeClaimTemplates", []):
        if not _is_quantity(claim["spec"]["resources"]["requests"]["storage"]):
            yield "a claim's storage is no quantity"
    for volume in installation.pod["volumes"]:
        if not _is_quantity(volume.get("emptyDir", {}).get("sizeLimit", "0")):
            yield f"volume {volume['name']}: the limit is no quantity"


def _is_quantity(value: object) -> bool:
    return _QUANTITY.fullmatch(str(value)) is not None


def links_and_tokens(installation: Manifests) -> Iterator[str]:
    """No variables of Services among our settings, no token for an API that nobody asks."""
    if installation.pod.get("enableServiceLinks") is not False:
        yield "Services put variables into the pod"
    if installation.pod.get("automountServiceAccountToken") is not False:
        yield "the pod mounts a token"
    accounts = list(installation.of("ServiceAccount"))
    if [account["metadata"]["name"] for account in accounts] != [installation.pod["serviceAccountName"]]:
        yield "the pod's service account is another"
    if any(account.get("automountServiceAccountToken") is not False for account in accounts):
        yield "the service account mounts a token"


def probes(installation: Manifests) -> Iterator[str]:
    """All three ask gRPC health on the plain port, each for its own name, and act before a drain is over."""
    wanted = {"startupProbe": LIVENESS, "livenessProbe": LIVENESS, "readinessProbe": READINESS}
    port = installation.port("health_listen")
    for probe, name in wanted.items():
        settings = installation.service.get(probe, {})
        if settings.get("grpc") != {"port": port, "service": name}:
            yield f"{probe}: does not ask {name} on port {port}"
        if settings.get("timeoutSeconds", 1) < 2:
            yield f"{probe}: gives up after less than 2 s"
    readiness = installation.service.get("readinessProbe", {})
    if readiness.get("periodSeconds", 10) * readiness.get("failureThreshold", 3) > 5:
        yield "readinessProbe: takes more than 5 s to see a drain"


def availability(installation: Manifests) -> Iterator[str]:
    """Each rollout is spread and slow enough, evictions take one replica at a time, nothing scales by itself."""
    spec = installation.workload["spec"]
    key = "pod-template-hash" if installation.workload["kind"] == "Deployment" else "controller-revision-hash"
    spread = {each["topologyKey"]: each for each in installation.pod.get("topologySpreadConstraints", [])}
    if spread.keys() != {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}:
        yield "replicas are not spread over zones and nodes"
    if any(each.get("matchLabelKeys") != [key] for each in spread.values()):
        yield f"the spread counts old pods: matchLabelKeys must be [{key}]"
    budgets = [budget["spec"] for budget in installation.of("PodDisruptionBudget")]
    wanted = {"maxUnavailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow"}
    if len(budgets) != 1 or not wanted.items() <= budgets[0].items():
        yield "the disruption budget does not let exactly one replica, and each broken one, be evicted"
    if spec.get("minReadySeconds", 0) < _SHORTEST_READY_SECONDS:
        yield f"minReadySeconds is below {_SHORTEST_READY_SECONDS}"
    strategy = spec.get("strategy", {})
    if strategy.get("type") == "RollingUpdate" and strategy["rollingUpdate"] != {"maxSurge": 1, "maxUnavailable": 0}:
        yield "a rollout takes replicas away before it brings others"
    if any(installation.of("HorizontalPodAutoscaler")):
        yield "something scales: more replicas do not raise the quota"

"""Rules for what names what: ports, labels, selectors, mounted names, network policies.

Each rule yields a line for everything that breaks it.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, Final

from deploy.manifests import NAME, SECRETS, Document, Manifests
from monitor_contact_service.variables import variable

_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")  # RFC 1123
_LABEL_VALUE: Final = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_PORT_NAME: Final = re.compile(r"(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*")  # RFC 6335
_LISTENERS: Final = {"grpc": "listen", "health": "health_listen", "metrics": "metrics_listen"}
# The way out that a pod's label asks for.
_WAYS_OUT: Final[Mapping[str, set[tuple[str, int]]]] = {
    "redis": {("TCP", 6379)},
    "postgresql": {("TCP", 5432)},
    "otel": {("TCP", 4317), ("TCP", 4318)},
    "pod-identity": {("TCP", 80)},
    "nodelocal-dns": {("UDP", 53), ("TCP", 53)},
}
_ALWAYS_OUT: Final = {("UDP", 53), ("TCP", 53), ("TCP", 443)}
_METADATA_OF_THE_NODE: Final = {"0.0.0.0/0": "169.254.169.254/32", "::/0": "fd00:ec2::254/128"}


def names(installation: Manifests) -> Iterator[str]:
    """Names, labels and ports are such as the API server takes."""
    for document in installation.documents:
        name = document["metadata"]["name"]
        if not _LABEL.fullmatch(name):
            yield f"{document['kind']} {name}: is no legal name"
        for value in document["metadata"].get("labels", {}).values():
            if not _LABEL_VALUE.fullmatch(value):
                yield f"{document['kind']} {name}: label {value} is not legal"
    for parts in (installation.containers, installation.pod["volumes"]):
        used = [part["name"] for part in parts]
        yield from (f"{name}: is no legal name" for name in used if not _LABEL.fullmatch(name))
        if len(set(used)) != len(used):
            yield f"a name stands twice in {used}"
    ports = [port for container in installation.containers for port in container.get("ports", [])]
    yield from (f"port {port['name']} has no legal name" for port in ports if not _PORT_NAME.fullmatch(port["name"]))
    yield from (f"port {number} is none" for number in _numbers(installation.documents) if not 1 <= number <= 65535)


def _numbers(node: Any) -> Iterator[int]:
    if isinstance(node, list):
        for each in node:
            yield from _numbers(each)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key in {"port", "containerPort", "targetPort"} and isinstance(value, int):
                yield value
            yield from _numbers(value)


def ports(installation: Manifests) -> Iterator[str]:
    """The container's ports are those of the settings, and what is reached from outside listens on every address."""
    declared = {port["name"]: port["containerPort"] for port in installation.service["ports"]}
    wanted = {name: installation.port(field) for name, field in _LISTENERS.items()}
    if declared != wanted:
        yield f"the container's ports are {declared}, the settings' {wanted}"
    for field in ("health_listen", "metrics_listen"):
        host = installation.variables[variable(field)].rpartition(":")[0]
        if host not in {"0.0.0.0", "[::]"}:  # noqa: S104 - asked for, not bound
            yield f"{variable(field)} is not on every address"
    for service in installation.of("Service"):
        for port in service["spec"]["ports"]:
            if port["port"] != wanted["grpc"] or port["targetPort"] != "grpc" or port.get("appProtocol") != "grpc":
                yield f"Service {service['metadata']['name']}: is not the gRPC port"
    for monitor in installation.of("PodMonitor"):
        if [endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]] != ["metrics"]:
            yield "the PodMonitor does not read the metrics port"


def services(installation: Manifests) -> Iterator[str]:
    """Whoever listens for others has a cluster Service and a headless one that names ready pods only."""
    found = {service["metadata"]["name"]: service["spec"] for service in installation.of("Service")}
    if not found:
        return
    if found.keys() != {NAME, f"{NAME}-headless"}:
        yield f"the Services are {sorted(found)}"
        return
    headless = found[f"{NAME}-headless"]
    if headless.get("clusterIP") != "None" or headless.get("publishNotReadyAddresses") is not False:
        yield "the headless Service is not headless, or names pods that are not ready"
    if any("trafficDistribution" in service for service in found.values()):
        yield "trafficDistribution skews a quota per replica"


def selectors(installation: Manifests) -> Iterator[str]:
    """Whatever selects pods selects ours."""
    spec = installation.workload["spec"]
    chosen = {"the workload": spec["selector"]["matchLabels"]}
    for constraint in installation.pod["topologySpreadConstraints"]:
        chosen[f"spread over {constraint['topologyKey']}"] = constraint["labelSelector"]["matchLabels"]
    for document in installation.of("Service"):
        chosen[f"Service {document['metadata']['name']}"] = document["spec"]["selector"]
    for document in installation.of("PodDisruptionBudget", "PodMonitor"):
        chosen[document["kind"]] = document["spec"]["selector"]["matchLabels"]
    for document in installation.of("NetworkPolicy"):
        labels = document["spec"]["podSelector"].get("matchLabels", {})
        # These are there for pods that ask for them.
        chosen[document["metadata"]["name"]] = {key: labels[key] for key in labels if "/uses-" not in key}
    for who, labels in chosen.items():
        if not labels.items() <= installation.labels.items():
            yield f"{who} selects {labels}, and the pods are {dict(installation.labels)}"
    if "StatefulSet" in installation.workload["kind"] and spec["serviceName"] != f"{NAME}-headless":
        yield "the StatefulSet's Service is another"


def references(installation: Manifests) -> Iterator[str]:
    """Each ConfigMap is there, each Secret is one that the documentation tells to make; each file is in a mount."""
    maps = {each["metadata"]["name"]: set(each["data"]) for each in installation.of("ConfigMap")}
    files: dict[str, set[str]] = {}
    for volume in installation.pod["volumes"]:
        if "configMap" in volume:
            name = volume["configMap"]["name"]
            if name not in maps:
                yield f"no ConfigMap {name}"
            files[volume["name"]] = maps.get(name, set())
        elif "secret" in volume:
            name = volume["secret"]["secretName"]
            if name not in SECRETS:
                yield f"nobody is told to make the Secret {name}"
            files[volume["name"]] = set(SECRETS.get(name, ()))
    mounts = {mount["mountPath"]: mount["name"] for mount in installation.service["volumeMounts"]}
    for name, value in installation.variables.items():
        if not name.endswith("_FILE"):
            continue
        path = PurePosixPath(value)
        volume = mounts.get(str(path.parent), "")
        if volume not in files or (files[volume] and path.name not in files[volume]):
            yield f"{name}: nothing mounts {value}"


def network(installation: Manifests) -> Iterator[str]:
    """With policies at all: nothing but the two ports in, and out what the service needs and its components ask for."""
    policies = {policy["metadata"]["name"]: policy["spec"] for policy in installation.of("NetworkPolicy")}
    if not policies:
        return
    if policies.get("default-deny") != {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}:
        yield "no policy denies the rest"
    ours = [
        spec
        for spec in policies.values()
        if spec["podSelector"].get("matchLabels", {}).items() <= installation.labels.items()
    ]
    inward = [rule for spec in ours for rule in spec.get("ingress", [])]
    outward = [rule for spec in ours for rule in spec.get("egress", [])]
    if _protocols(inward) != {("TCP", installation.port("listen")), ("TCP", installation.port("metrics_listen"))}:
        yield f"in come {_protocols(inward)}"
    yield from (f"everybody may come in: {rule}" for rule in inward if not _is_narrow(rule))
    asked = {key.partition("/uses-")[2] for key in installation.labels if "/uses-" in key}
    yield from (f"nothing is known of a way to {name}" for name in sorted(asked - _WAYS_OUT.keys()))
    wanted = _ALWAYS_OUT.union(*(_WAYS_OUT.get(name, set()) for name in asked))
    if _protocols(outward) != wanted:
        yield f"out go {_protocols(outward)}, needed are {wanted}"
    for block in (block["ipBlock"] for rule in outward for block in rule.get("to", []) if "ipBlock" in block):
        excepted = _METADATA_OF_THE_NODE.get(block["cidr"])
        if excepted and excepted not in block.get("except", []):
            yield "the node's metadata can be asked"


def _protocols(rules: list[Document]) -> set[tuple[str, int]]:
    """Return protocol and port of every rule; a rule without ports is for all, as port 0."""
    return {
        (port["protocol"], port["port"]) for rule in rules for port in rule.get("ports", [{"protocol": "", "port": 0}])
    }


def _is_narrow(rule: Document) -> bool:
    """Return whether every peer is a namespace with a label of the platform's, which no namespace has by itself."""
    peers = rule.get("from", [])
    labels = [peer.get("namespaceSelector", {}).get("matchLabels", {}) for peer in peers]
    return bool(peers) and all(labels) and not any("kubernetes.io/metadata.name" in each for each in labels)

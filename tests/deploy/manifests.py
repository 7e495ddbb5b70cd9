"""What stands in rendered manifests: one installation of the service, and the answers that the rules ask of it."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import yaml
from monitor_contact_service.address import parse_address
from monitor_contact_service.settings import Settings
from monitor_contact_service.variables import PREFIX, variable
from pydantic import ValidationError

ROOT: Final = Path(__file__).resolve().parents[2]
KUBERNETES: Final = ROOT / "deploy" / "kubernetes"
RENDERED: Final = KUBERNETES / "rendered"
OVERLAYS: Final = tuple(sorted(path.name for path in (KUBERNETES / "overlays").iterdir()))

NAME: Final = "monitor-contact"
WORKLOADS: Final = frozenset({"Deployment", "StatefulSet"})
# What a person makes in the cluster, with the keys that the service reads.
SECRETS: Final[Mapping[str, frozenset[str]]] = {
    "monitor-contact-tls": frozenset({"tls.crt", "tls.key", "ca.crt"}),
    "monitor-contact-settings": frozenset({"settings.env"}),
}
# Which component's line of monitor-contact-settings a pod with such a label reads.
_SECRET_SETTINGS: Final = {
    "monitor-contact/uses-redis": "redis-quota",
    "monitor-contact/uses-postgresql": "audit-postgresql",
}

Document = dict[str, Any]


def read(text: str) -> list[Document]:
    """Return the documents of a YAML text."""
    return [document for document in yaml.load_all(text, yaml.CSafeLoader) if document]


def rendered(overlay: str) -> "Manifests":
    """Return what is committed of an overlay."""
    return Manifests(read((RENDERED / f"{overlay}.yaml").read_text("utf-8")))


@dataclass(frozen=True)
class Manifests:
    """All documents of one installation."""

    documents: list[Document]

    def of(self, *kinds: str) -> Iterator[Document]:
        """Yield the documents of these kinds."""
        return (document for document in self.documents if document["kind"] in kinds)

    @cached_property
    def workload(self) -> Document:
        """The one Deployment or StatefulSet."""
        (workload,) = self.of(*WORKLOADS)
        return workload

    @cached_property
    def labels(self) -> Mapping[str, str]:
        """Labels of the pods."""
        labels: Mapping[str, str] = self.workload["spec"]["template"]["metadata"]["labels"]
        return labels

    @cached_property
    def pod(self) -> Document:
        """What the pods are."""
        pod: Document = self.workload["spec"]["template"]["spec"]
        return pod

    @cached_property
    def containers(self) -> list[Document]:
        """All containers, the service's first."""
        return [*self.pod["containers"], *self.pod.get("initContainers", [])]

    @property
    def service(self) -> Document:
        """The container of the service."""
        (container,) = (each for each in self.containers if each["name"] == NAME)
        return container

    def environment(self, container: Document) -> dict[str, str]:
        """Return the variables of a container. The files of Secrets are not among them."""
        data = {document["metadata"]["name"]: document["data"] for document in self.of("ConfigMap")}
        variables: dict[str, str] = {}
        for source in container.get("envFrom", []):
            variables |= data[source["configMapRef"]["name"]]
        return variables | {each["name"]: each["value"] for each in container.get("env", [])}

    @cached_property
    def variables(self) -> Mapping[str, str]:
        """What the service is told: its variables, and where a Secret tells more, the examples of its lines."""
        variables = self.environment(self.service)
        if variable("settings_file") in variables:
            for label, component in _SECRET_SETTINGS.items():
                if label in self.labels:
                    text = (KUBERNETES / "components" / component / "settings.example.env").read_text("utf-8")
                    variables = dict(line.split("=", 1) for line in text.splitlines()) | variables
        return variables

    @cached_property
    def settings(self) -> Settings | list[str]:
        """What the service makes of its variables: settings, or what is wrong with them."""
        fields = {variable(field): field for field in Settings.model_fields}
        ours = {name: value for name, value in self.variables.items() if name.startswith(PREFIX)}
        if unknown := sorted(ours.keys() - fields.keys()):
            return [f"{name}: is not a setting" for name in unknown]
        try:
            return Settings(**{fields[name]: value for name, value in ours.items()})  # type: ignore[arg-type]  # parsed there
        except ValidationError as error:
            return [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]

    def port(self, field: str) -> int:
        """Return the port of an address among the settings."""
        return parse_address(self.variables[variable(field)]).port

    @property
    def pre_stop_seconds(self) -> float:
        """How long the service is not told that it shall end."""
        hook = self.service.get("lifecycle", {}).get("preStop", {})
        return float(hook.get("sleep", {}).get("seconds", 0))

    def most_running(self, drain_seconds: float) -> int:
        """Return how many replicas spend quota at one time at most while a rollout goes as it should.

        A Deployment does not count what is still terminating: its drain goes on while the next replica comes.
        """
        spec = self.workload["spec"]
        replicas = int(spec["replicas"])
        strategy = spec.get("strategy", {})
        if strategy.get("type") != "RollingUpdate":  # a StatefulSet, or Recreate: ended first, then started
            return replicas
        surge = _part(strategy["rollingUpdate"]["maxSurge"], replicas)
        at_a_time = surge + _part(strategy["rollingUpdate"]["maxUnavailable"], replicas)
        steps_in_a_drain = int((self.pre_stop_seconds + drain_seconds) / spec["minReadySeconds"]) + 1
        return replicas + surge + min(replicas, at_a_time * steps_in_a_drain)


def _part(value: int | str, replicas: int) -> int:
    return math.ceil(int(value.removesuffix("%")) * replicas / 100) if isinstance(value, str) else value

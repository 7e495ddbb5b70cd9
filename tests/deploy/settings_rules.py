"""Rules for what the service is told: settings that it takes, times and replicas that add up, records that last.

Each rule yields a line for everything that breaks it.
"""

from collections.abc import Iterator
from typing import Final

from deploy.manifests import NAME, Manifests
from monitor_contact_service.cli import parser
from monitor_contact_service.settings import Settings

# Until everybody has heard that a pod leaves: Kubernetes names no bound (choice; measured with proxies 1.5 s late).
_ENDPOINT_DELAY_SECONDS: Final = 5
_AGE_JITTER: Final = 1.1  # gRPC ends a connection up to 10 % later than configured
# After the last record, one after the other: exporters, the audit's end, and what has no time-out of its own (choice).
_FLUSH_SECONDS: Final = 3
_AUDIT_END_SECONDS: Final = 5
_LISTENERS_SECONDS: Final = 1
_SPOT_NOTICE_SECONDS: Final = 120
# What `monitor-contact simulate` publishes, and where it listens.
_SIMULATOR_KEYS: Final = {"AWS_ACCESS_KEY_ID": "AKIDSIMULATOR", "AWS_SECRET_ACCESS_KEY": "simulator-secret"}
_SIMULATOR_URL: Final = "http://127.0.0.1:4570"


def commands(installation: Manifests) -> Iterator[str]:
    """Each container runs a command that the program has; only one is the service."""
    for container in installation.containers:
        command = parser().parse_args(container["args"]).command
        if (command == "serve") != (container["name"] == NAME):
            yield f"{container['name']}: runs {command}"


def accepted(installation: Manifests) -> Iterator[str]:
    """Every variable of ours is a setting, and together they are settings that the service starts with."""
    if not isinstance(installation.settings, Settings):
        yield from installation.settings


def drain(installation: Manifests) -> Iterator[str]:
    """A connection has ended by its age before the server stops, and everything has ended before the kill."""
    settings = installation.settings
    if not isinstance(settings, Settings):
        return
    leaving = installation.pre_stop_seconds + settings.drain_seconds
    needed = _ENDPOINT_DELAY_SECONDS + _AGE_JITTER * settings.max_connection_age_seconds
    if leaving <= needed:
        yield f"{leaving:g} s of preStop and drain are not more than {needed:g} s"
    # Work that nobody waits for keeps its deadline, too; its record comes after that.
    answered = max(settings.stop_grace_seconds, settings.max_deadline_seconds + settings.audit_timeout_seconds)
    whole = leaving + answered + _FLUSH_SECONDS + _AUDIT_END_SECONDS + _LISTENERS_SECONDS
    grace = installation.pod["terminationGracePeriodSeconds"]
    left = grace - installation.pre_stop_seconds
    if settings.termination_grace_seconds != left:
        yield f"the service is told {settings.termination_grace_seconds:g} s of grace, it has {left} s after SIGTERM"
    if not whole < grace < _SPOT_NOTICE_SECONDS:
        yield f"the grace period of {grace} s must be above {whole:g} s and below {_SPOT_NOTICE_SECONDS} s"


def quota(installation: Manifests) -> Iterator[str]:
    """The quota is divided by the most replicas that ever spend it at one time."""
    settings = installation.settings
    if not isinstance(settings, Settings):
        return
    most = installation.most_running(settings.drain_seconds)
    if settings.quota_replicas != most:
        yield f"{settings.quota_replicas} replicas share the quota, {most} can run"


def keys(installation: Manifests) -> Iterator[str]:
    """No AWS key stands in a manifest but the simulator's, for the simulator, and only the pod's own role counts."""
    variables = installation.variables
    static = {name: variables[name] for name in variables if "ACCESS_KEY" in name or name == "AWS_SESSION_TOKEN"}
    simulated = variables.get("AWS_ENDPOINT_URL_CONNECT") == _SIMULATOR_URL
    if static and not (simulated and static == _SIMULATOR_KEYS):
        yield f"static keys: {sorted(static)}"
    if (
        variables.get("AWS_EC2_METADATA_DISABLED") != "true"
        or variables.get("AWS_STS_REGIONAL_ENDPOINTS") != "regional"
    ):
        yield "the node's credentials or the global STS can be asked"


def passwords(installation: Manifests) -> Iterator[str]:
    """No URL in a manifest holds a password: they come in a file of a Secret."""
    for container in installation.containers:
        for name, value in installation.environment(container).items():
            if "://" in value and "@" in value:
                yield f"{name} holds a user"


def audit(installation: Manifests) -> Iterator[str]:
    """Records go to a database or to a volume that outlives the pod."""
    settings = installation.settings
    if not isinstance(settings, Settings) or settings.audit_database:
        return
    claims = {claim["metadata"]["name"] for claim in installation.workload["spec"].get("volumeClaimTemplates", [])}
    folders = {each["mountPath"] for each in installation.service["volumeMounts"] if each["name"] in claims}
    if settings.audit_file.rpartition("/")[0] not in folders:
        yield "the audit ends with its pod"


def image(installation: Manifests) -> Iterator[str]:
    """The image is named by its content."""
    for container in installation.containers:
        digest = container["image"].partition("@sha256:")[2]
        if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
            yield f"{container['name']}: {container['image']} names no digest"


def namespace(installation: Manifests) -> Iterator[str]:
    """Everything is in one namespace, which holds its pods to the restricted standard of a fixed version."""
    (space,) = installation.of("Namespace")
    others = {each["metadata"].get("namespace") for each in installation.documents if each["kind"] != "Namespace"}
    if others != {space["metadata"]["name"]}:
        yield f"documents are in {others}"
    labels = space["metadata"].get("labels", {})
    for mode in ("enforce", "audit", "warn"):
        key = f"pod-security.kubernetes.io/{mode}"
        if labels.get(key) != "restricted" or not labels.get(f"{key}-version", "").startswith("v1."):
            yield f"{key} is not restricted, or of no fixed version"


def region(installation: Manifests) -> Iterator[str]:
    """The Region is said: nothing else in the cluster tells it."""
    if not installation.variables.get("AWS_REGION"):
        yield "AWS_REGION is missing"

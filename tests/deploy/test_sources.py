"""The sources of the manifests: they render, in every combination, to what is committed and what Kubernetes takes."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
import yaml
from deploy.kustomize import combinations, render_combinations
from deploy.manifests import KUBERNETES, OVERLAYS, RENDERED, ROOT, rendered
from deploy.rules import EVERYWHERE
from deploy.settings_rules import accepted

RequireTool = Callable[[str, str], str]

MINORS: Final = ("1.35", "1.36", "1.37")  # those that get patches
# Not Kubernetes' own; `check-crds` knows them.
CUSTOM_KINDS: Final = {"PodMonitor", "PrometheusRule"}


def test_what_is_committed_is_what_renders(require_tool: RequireTool, tmp_path: Path) -> None:
    """`make render` leaves no difference."""
    require_tool("kustomize", "that rendered/ is what the overlays say")
    subprocess.run([ROOT / "tools" / "render.sh", tmp_path], check=True, timeout=120)

    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.yaml" for name in OVERLAYS}
    for path in tmp_path.iterdir():
        assert path.read_text("utf-8") == (RENDERED / path.name).read_text("utf-8"), path.name


@pytest.mark.slow
def test_every_combination_of_components_keeps_every_rule(require_tool: RequireTool, tmp_path: Path) -> None:
    """In an order that no overlay has. Only TLS without access and policy is refused, by the service itself."""
    kustomize = require_tool("kustomize", "that the components go together")
    problems: list[str] = []
    for components, installation in render_combinations(kustomize, combinations(), tmp_path):
        found = [f"{rule.__name__}: {problem}" for rule in EVERYWHERE for problem in rule(installation)]
        if "mtls" in components and "access-and-policy" not in components:
            assert any("MONITOR_CONTACT_ACCESS_FILE" in problem for problem in accepted(installation))
            found = [problem for problem in found if not problem.startswith("accepted: ")]
        problems += [f"{' '.join(components)}: {problem}" for problem in found]

    assert not problems, "\n".join(problems[:20])


@pytest.mark.parametrize("minor", MINORS)
def test_kubernetes_takes_what_is_rendered(require_tool: RequireTool, tmp_path: Path, minor: str) -> None:
    """Every overlay, and as many components as go together, by the strict schemas: no unknown field, no wrong type."""
    validate = require_tool("kubernetes-validate", "the manifests against the schemas of Kubernetes")
    kustomize = require_tool("kustomize", "the components against the schemas of Kubernetes")
    most = max(map(len, combinations()))
    fullest = [components for components in combinations() if len(components) == most]
    installations = [rendered(name) for name in OVERLAYS]
    installations += [each for _, each in render_combinations(kustomize, fullest, tmp_path / "sources")]
    files = [tmp_path / f"{number}.yaml" for number in range(len(installations))]
    for file, installation in zip(files, installations, strict=True):
        file.write_text(yaml.safe_dump_all(installation.documents))

    done = subprocess.run(
        [validate, "-k", minor, "--strict", *files], capture_output=True, text=True, check=False, timeout=300
    )
    said = (done.stdout + done.stderr).splitlines()
    assert done.returncode == 0, "\n".join(line for line in said if "INFO" not in line)
    # A kind without a schema is only a warning to it, so what has passed is counted.
    of_kubernetes = [doc for each in installations for doc in each.documents if doc["kind"] not in CUSTOM_KINDS]
    assert sum(" passed " in line for line in said) == len(of_kubernetes), "\n".join(said)


def test_the_strict_check_sees_a_misspelt_field(require_tool: RequireTool, tmp_path: Path) -> None:
    """The tool is used so that it does: without --strict it would pass."""
    validate = require_tool("kubernetes-validate", "the manifests against the schemas of Kubernetes")
    text = (RENDERED / "production.yaml").read_text("utf-8")
    (tmp_path / "wrong.yaml").write_text(text.replace("readinessProbe:", "readynessProbe:"))

    done = subprocess.run(
        [validate, "-k", MINORS[0], "--strict", tmp_path / "wrong.yaml"], capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 1


def _check_crds(tool: str, documents: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([tool], input=json.dumps(documents), capture_output=True, text=True, check=False, timeout=60)


def test_the_operator_takes_the_custom_resources(require_tool: RequireTool) -> None:
    """Those of every overlay, by the schemas of the Prometheus operator; a wrong duration would not pass."""
    tool = require_tool("check-crds", "PodMonitor and PrometheusRule against the schemas of the Prometheus operator")
    custom = [document for name in OVERLAYS for document in rendered(name).of(*CUSTOM_KINDS)]
    assert custom
    done = _check_crds(tool, custom)
    assert done.returncode == 0, done.stdout + done.stderr

    (monitor,) = (document for document in custom if document["kind"] == "PodMonitor")
    monitor["spec"]["podMetricsEndpoints"][0]["interval"] = "thirty"
    done = _check_crds(tool, [monitor])
    assert (done.returncode, "interval" in done.stdout) == (1, True), done.stdout + done.stderr


def test_nothing_in_the_base_needs_a_custom_resource() -> None:
    """A cluster without any operator takes it."""
    for path in (KUBERNETES / "base").glob("*.yaml"):
        assert "monitoring.coreos.com" not in path.read_text("utf-8"), path

"""Renders overlays and every combination of components, by kustomize."""

import itertools
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from deploy.manifests import KUBERNETES, Document, Manifests, read

Combination = tuple[str, ...]

# Of each of these one at most; settings-secret comes with those that need it.
_ALTERNATIVES: Final = (("audit-volume", "audit-postgresql"), ("irsa", "pod-identity"))
_BROUGHT_ALONG: Final = frozenset({"settings-secret"})
# One process renders many, each in a namespace of its own (measured: 64 at a time take a ninth of 64 times one).
_AT_A_TIME: Final = 64


def render(kustomize: str, folder: Path) -> list[Document]:
    """Return what a folder renders to."""
    done = subprocess.run([kustomize, "build", str(folder)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return read(done.stdout)


def combinations() -> list[Combination]:
    """Return every set of components that go together, in alphabetical order as in no overlay."""
    chosen = {name for alternatives in _ALTERNATIVES for name in alternatives}
    folders = {path.name for path in (KUBERNETES / "components").iterdir()}
    assert chosen | _BROUGHT_ALONG < folders
    choices: list[Sequence[str]] = [("", *alternatives) for alternatives in _ALTERNATIVES]
    choices += [("", name) for name in sorted(folders - chosen - _BROUGHT_ALONG)]
    return [tuple(sorted(filter(None, choice))) for choice in itertools.product(*choices)]


def render_combinations(
    kustomize: str, wanted: Sequence[Combination], folder: Path
) -> Iterator[tuple[Combination, Manifests]]:
    """Yield each combination over the base with what it renders to. `folder` is empty, for files of kustomize."""
    for start in range(0, len(wanted), _AT_A_TIME):
        batch = wanted[start : start + _AT_A_TIME]
        top = folder / str(start)
        for number, components in enumerate(batch):
            _write(top / f"c{number}", components)
        (top / "kustomization.yaml").write_text(f"resources: [{', '.join(f'c{n}' for n in range(len(batch)))}]\n")
        documents: dict[str, list[Document]] = {f"c{number}": [] for number in range(len(batch))}
        for document in render(kustomize, top):
            documents[document["metadata"]["namespace"]].append(document)
        yield from zip(batch, map(Manifests, documents.values()), strict=True)


def _write(folder: Path, components: Combination) -> None:
    """Write an overlay that does what every overlay with these components has to."""
    folder.mkdir(parents=True)
    sources = os.path.relpath(KUBERNETES, folder.resolve())
    lines = [f"namespace: {folder.name}", f"resources: [{sources}/base]"]
    if components:
        lines += ["components:", *(f"  - {sources}/components/{name}" for name in components)]
    if "access-and-policy" in components:
        lines += [
            "configMapGenerator:",
            "  - {name: monitor-contact-access, literals: [access.toml=]}",
            "  - {name: monitor-contact-policy, literals: [policy.cedar=], options: {disableNameSuffixHash: true}}",
        ]
    (folder / "kustomization.yaml").write_text("\n".join(lines) + "\n")

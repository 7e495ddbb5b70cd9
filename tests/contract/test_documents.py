"""What the repository says about itself: links that lead somewhere, locks that pin and name no place of download."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = (
    "requirements.lock",
    "requirements-dev.lock",
    "proto/generator.lock",
    "tools/build.lock",
    "deploy/kubernetes/requirements.lock",
    "benchmarks/quota/requirements.lock",
)
NOT_OURS = {".git", ".venv", ".tools", "__pycache__", "dist", "build"}
# Put together here, so that this file does not name them either. Where packages come from is the machine's business.
HOSTS = tuple(
    ".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("npmjs", "com"))
)


def files(suffixes: tuple[str, ...] = ()) -> Iterator[Path]:
    """Yield the files of the checkout, caches and environments left out."""
    for folder, folders, names in os.walk(ROOT):
        hidden_caches = {name for name in folders if name.endswith("_cache") or name == ".hypothesis"}
        folders[:] = sorted(set(folders) - NOT_OURS - hidden_caches)
        yield from (Path(folder) / name for name in sorted(names) if not suffixes or name.endswith(suffixes))


@pytest.mark.parametrize("document", [path.relative_to(ROOT) for path in files((".md",))], ids=str)
def test_relative_links_lead_to_files(document: Path) -> None:
    """Every link in every document that is not an address on the web, heading included."""
    text = (ROOT / document).read_text("utf-8")
    for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        found = (ROOT / document).parent / name if name else ROOT / document
        assert found.exists(), f"{document}: {target}"
        if anchor:
            assert anchor in _anchors(found.read_text("utf-8")), f"{document}: {target}"


def _anchors(text: str) -> set[str]:
    headings = re.findall(r"(?m)^#+ +(.+?) *$", text)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_pins_versions_with_hashes_and_nothing_else(name: str) -> None:
    """No index, no place of download, no option: each line is a pinned version or one of its hashes."""
    for line in (ROOT / name).read_text("utf-8").splitlines():
        pinned = re.fullmatch(r"[a-z0-9.\-]+==[\w.+!]+( ; [^:]+)? \\", line)
        hashed = re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line)
        assert pinned or hashed, line


def test_no_file_names_a_package_registry() -> None:
    """Mirrors, proxies and indexes are the configuration of a machine, never of this repository."""
    for path in files():
        text = path.read_text("utf-8", errors="replace")
        assert not [host for host in HOSTS if host in text], path

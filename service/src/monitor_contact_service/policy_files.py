"""Reads policies from disk: the package's own rules, the operator's file, and the tests beside it that must hold."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from .core.policy import Foundation, Policies, PolicyError, compile_policies
from .policy_cases import run_cases
from .settings import ConfigurationError


@dataclass(frozen=True, slots=True)
class PolicyContent:
    """What a policy file and the tests beside it hold, undecoded; `tests` is None where there are none."""

    policy: bytes
    tests: bytes | None


@dataclass(frozen=True, slots=True)
class LoadedPolicies:
    """Policies that have passed their tests, how many these were, and what was read."""

    policies: Policies
    cases: int
    content: PolicyContent


def tests_path(path: str) -> Path:
    """Return where the tests of a policy file are: `policy.cedartest.toml` beside `policy.cedar`."""
    return Path(path).with_suffix(".cedartest.toml")


def foundation() -> Foundation:
    """Return the schema and the invariants of this version of the service."""
    return Foundation(schema=_of_package("schema.cedarschema"), invariants=_of_package("invariants.cedar"))


def demo_policies() -> Policies:
    """Return what holds without a policy file: the role "demo" may do everything that the invariants leave."""
    return compile_policies(_of_package("demo.cedar"), "demo.cedar", foundation())


def load_policies(path: str) -> LoadedPolicies:
    """Return the policies of a file, after its tests.

    Raises:
        ConfigurationError: a line per fault; each names file and line, or the case that does not hold.
    """
    return compile_content(path, read_content(path))


def read_content(path: str) -> PolicyContent:
    """Return what is on disk now.

    Raises:
        ConfigurationError: it cannot be read.
    """
    try:
        policy = Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError([f"{path}: {error.strerror}"]) from error
    beside = tests_path(path)
    try:
        return PolicyContent(policy, beside.read_bytes())
    except FileNotFoundError:
        return PolicyContent(policy, None)
    except OSError as error:
        raise ConfigurationError([f"{beside}: {error.strerror}"]) from error


def compile_content(path: str, content: PolicyContent) -> LoadedPolicies:
    """Return the policies that were read from `path`, after their tests.

    Raises:
        ConfigurationError: as `load_policies`.
    """
    try:
        policies = compile_policies(_text(path, content.policy), path, foundation())
        beside = str(tests_path(path))
        cases = 0 if content.tests is None else run_cases(_text(beside, content.tests), beside, policies)
    except PolicyError as error:
        raise ConfigurationError(error.problems) from error
    return LoadedPolicies(policies, cases, content)


def content_sha256(content: PolicyContent) -> str:
    """Return what `Policies.sha256` would be, whether the content is good or not."""
    return foundation().sha256(content.policy.decode(errors="replace"))


def _text(name: str, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise PolicyError([f"{name}:{line}: must be UTF-8 text"]) from error


def _of_package(name: str) -> str:
    return files(__package__).joinpath("policies", name).read_text(encoding="utf-8")

"""All rules, by where they hold."""

from collections.abc import Callable, Iterator
from typing import Final

from deploy.manifests import Manifests

from deploy import pod_rules, settings_rules, wiring_rules

Rule = Callable[[Manifests], Iterator[str]]

EVERYWHERE: Final[tuple[Rule, ...]] = (
    pod_rules.restricted,
    pod_rules.scratch,
    pod_rules.resources,
    pod_rules.links_and_tokens,
    pod_rules.probes,
    pod_rules.availability,
    wiring_rules.names,
    wiring_rules.ports,
    wiring_rules.services,
    wiring_rules.selectors,
    wiring_rules.references,
    wiring_rules.network,
    settings_rules.commands,
    settings_rules.accepted,
    settings_rules.drain,
    settings_rules.quota,
    settings_rules.keys,
    settings_rules.passwords,
)
IN_OVERLAYS: Final[tuple[Rule, ...]] = (settings_rules.namespace, settings_rules.region)
IN_PRODUCTION: Final[tuple[Rule, ...]] = (settings_rules.image, settings_rules.audit)


def of_overlay(name: str) -> tuple[Rule, ...]:
    """Return the rules that an overlay must keep; the demo records calls that nobody made, with an image made here."""
    return EVERYWHERE + IN_OVERLAYS + (() if name == "demo" else IN_PRODUCTION)

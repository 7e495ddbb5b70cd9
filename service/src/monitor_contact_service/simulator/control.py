"""The control API under `/_simulator/`: what a test in another process uses instead of `Simulator`'s methods.

Decides what each request means for the simulation. JSON both ways, but for a world, which comes as TOML; not signed,
because the simulator listens on loopback only.
"""

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from .answers import JSON, Answer
from .buckets import Quota
from .faults import FaultError, parse_faults
from .simulation import Simulation
from .standin import MONITOR_CONTACT
from .worldfile import WorldError, parse_world

PREFIX = "/_simulator/"

_Actions = dict[tuple[str, str], Callable[[bytes], None]]  # (method, path below the prefix): what to do with the body


class ControlError(ValueError):
    """A control request that makes no sense; the text says why."""


class Control:
    """Answers the control API of one simulation."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._actions: _Actions = {
            ("GET", "state"): lambda _: None,
            ("PUT", "faults"): self._set_faults,
            ("DELETE", "faults"): lambda _: simulation.clear_faults(),
            ("PUT", "quota"): self._set_quota,
            ("PUT", "switches"): self._set_switches,
            ("PUT", "world"): self._set_world,
            ("DELETE", "sessions"): self._end_sessions,
            ("POST", "reset"): lambda _: simulation.reset(),
        }

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        """Do what is asked and return the state afterwards, or 400 or 404 with the reason."""
        action = self._actions.get((method, path.removeprefix(PREFIX)))
        if action is None:
            known = ", ".join(f"{method} {PREFIX}{name}" for method, name in self._actions)
            return _document(404, {"error": f"no such control; there are {known}"})
        try:
            action(body)
        except (ControlError, FaultError, WorldError) as error:
            return _document(400, {"error": str(error)})
        return _document(200, self._state())

    def _state(self) -> dict[str, Any]:
        simulation = self._simulation
        return {
            "calls": dict(simulation.counts),
            "sessions": [asdict(session) for session in simulation.sessions],
            "monitor_contacts": [received.document() for received in simulation.calls(MONITOR_CONTACT)],
            "faults": [
                {"action": entry.fault.action, "api": entry.fault.api, "met": entry.met, "struck": entry.struck}
                for entry in simulation.faults
            ],
            "quotas": {api: asdict(quota) for api, quota in simulation.quotas.items()},
            "switches": asdict(simulation.switches),
        }

    def _set_faults(self, body: bytes) -> None:
        faults = parse_faults(_parse(body))
        self._simulation.clear_faults()
        self._simulation.inject(*faults)

    def _set_quota(self, body: bytes) -> None:
        given = _parse_object(body)
        api = given.pop("api", MONITOR_CONTACT)
        if not isinstance(api, str) or api not in self._simulation.quotas:
            raise ControlError(f"no API is called {api!r}; there are {', '.join(self._simulation.quotas)}")
        if set(given) != {"rate", "burst"} or not all(_is_number(value) for value in given.values()):
            raise ControlError('a quota has two numbers, e.g. {"api": "MonitorContact", "rate": 1, "burst": 2}')
        try:
            quota = Quota(**given)
        except ValueError as error:
            raise ControlError(str(error)) from error
        self._simulation.set_quota(api, quota)

    def _set_switches(self, body: bytes) -> None:
        try:
            self._simulation.switches = self._simulation.switches.change(_parse_object(body))
        except ValueError as error:
            raise ControlError(str(error)) from error

    def _set_world(self, body: bytes) -> None:
        try:
            text = body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ControlError("a world is TOML, in UTF-8") from error
        self._simulation.world = parse_world(text, "world")

    def _end_sessions(self, _: bytes) -> None:
        for session in self._simulation.sessions:
            self._simulation.end_session(session.id)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _parse(body: bytes) -> object:
    try:
        document: object = json.loads(body, parse_float=_float, parse_int=_int, parse_constant=_float)
    except ControlError:
        raise
    except (ValueError, RecursionError) as error:
        raise ControlError(f"the body is not JSON: {error}") from error
    return document


def _float(text: str) -> float:
    """Return a number of the body. Python by itself takes NaN, and 1e400 for Infinity, which would be no JSON again."""
    number = float(text)
    if not math.isfinite(number):
        raise ControlError(f"a number must be finite and below 1.8e308, not {text[:20]}")
    return number


def _int(text: str) -> int:
    _float(text)
    return int(text)


def _parse_object(body: bytes) -> dict[str, Any]:
    document = _parse(body)
    if not isinstance(document, dict):
        raise ControlError("the body must be a JSON object")
    return document


def _document(status: int, document: dict[str, Any]) -> Answer:
    return Answer(status, {"Content-Type": JSON}, json.dumps(document, indent=2).encode() + b"\n")

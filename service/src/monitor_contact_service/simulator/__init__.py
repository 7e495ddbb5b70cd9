"""A faithful stand-in for Amazon Connect's MonitorContact and the reads around it: real wire protocol, small world.

Nothing in the service's request path imports it. How to use it and what it checks is told in
docs/simulator.md. The ways in: `Simulator` for tests in the same process, `simulate` for the command.
"""

from .answers import Answer, Refusal
from .buckets import DEFAULT_QUOTAS, UNLIMITED, Quota
from .faults import ACTIONS, GARBAGE, Fault, FaultError, parse_faults
from .journal import ReceivedCall
from .server import NotLoopbackError, Simulator
from .serving import DEFAULT_PORT, describe, simulate
from .sessions import Session
from .switches import Switches
from .world import AccessKey, Contact, Instance, SecurityProfile, User, World
from .worldfile import WorldError, default_world, default_world_text, load_world, parse_world

__all__ = [
    "ACTIONS",
    "DEFAULT_PORT",
    "DEFAULT_QUOTAS",
    "GARBAGE",
    "UNLIMITED",
    "AccessKey",
    "Answer",
    "Contact",
    "Fault",
    "FaultError",
    "Instance",
    "NotLoopbackError",
    "Quota",
    "ReceivedCall",
    "Refusal",
    "SecurityProfile",
    "Session",
    "Simulator",
    "Switches",
    "User",
    "World",
    "WorldError",
    "default_world",
    "default_world_text",
    "describe",
    "load_world",
    "parse_faults",
    "parse_world",
    "simulate",
]

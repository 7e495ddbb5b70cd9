"""Reads a world from a TOML file, and says of a broken one what is wrong in which line, all at once.

Checks names, types and references and leaves the meaning of the facts to `rules`: a world may well hold a phone number
that Connect refuses. How a file is written is shown by `default_world.toml`.
"""

import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from .section import Section, Source
from .world import CHANNELS, CONTACT_STATES, AccessKey, Contact, Instance, SecurityProfile, User, World

DEFAULT_WORLD = "default_world.toml"
LEVELS = 5  # of an agent hierarchy
PROFILES_PER_USER = 10
_REGION = re.compile(r"[a-z]{2}(-[a-z]+){1,2}-[0-9]")  # as in botocore's model
_TABLES = ("access_keys", "instances", "security_profiles", "users", "contacts")

Thing = TypeVar("Thing", SecurityProfile, User)


class WorldError(Exception):
    """A world file that cannot be used. Its text has one line for each problem: `path:line: reason`."""

    def __init__(self, path: str, problems: list[tuple[int, str]]) -> None:
        self.problems = sorted(problems, key=lambda problem: problem[0])
        super().__init__("\n".join(f"{path}:{line}: {reason}" for line, reason in self.problems))


def default_world_text() -> str:
    """Return the text of the world file that ships with the simulator: the one to copy and change."""
    return resources.files(__package__).joinpath(DEFAULT_WORLD).read_text(encoding="utf-8")


def default_world() -> World:
    """Return the world that ships with the simulator."""
    return parse_world(default_world_text(), DEFAULT_WORLD)


def load_world(path: Path | str) -> World:
    """Read a world file. WorldError: it cannot be read, or anything in it is wrong."""
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise WorldError(str(path), [(1, f"cannot be read: {error.strerror}")]) from error
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise WorldError(str(path), [(line, "is not UTF-8 text; save the file as UTF-8")]) from error
    return parse_world(text, str(path))


def parse_world(text: str, path: str) -> World:
    """Make a world from the text of a file; `path` is for messages only. WorldError: anything in it is wrong."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise WorldError(path, [_syntax_problem(str(error), text)]) from error
    source = Source(text)
    world = _world(Section(source, (), document))
    if source.problems:
        raise WorldError(path, source.problems)
    return world


def _syntax_problem(message: str, text: str) -> tuple[int, str]:
    place = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", message)
    line = int(place[1]) if place and place[1] else max(1, len(text.splitlines()))
    column = f" at column {place[2]}" if place and place[2] else ""
    what = message[: place.start()] if place else message
    return line, f"not TOML: {what}{column}; right is [kind.name] or key = value on each line, and each key once"


def _world(top: Section) -> World:
    account = top.text(
        "account", right='twelve digits in quotes such as "123456789012"', pattern=re.compile("[0-9]{12}")
    )
    region = top.text("region", right='a Region such as "us-east-1"', pattern=_REGION)
    tables = {name: top.sections(name) for name in _TABLES}
    top.finish()
    keys = {name: _access_key(section, name) for name, section in tables["access_keys"].items()}
    instances = {name: _instance(section, name) for name, section in tables["instances"].items()}
    profiles = {name: _profile(section, name, instances) for name, section in tables["security_profiles"].items()}
    users = {name: _user(section, name, instances, profiles) for name, section in tables["users"].items()}
    contacts = {name: _contact(section, name, instances, users) for name, section in tables["contacts"].items()}
    for kind, things in (("instances", instances), ("security_profiles", profiles), ("users", users)):
        _ids_differ(kind, tables[kind], things)
    _ids_differ("contacts", tables["contacts"], contacts)
    for name in ("access_keys", "instances"):
        if not tables[name] and name not in top.wrong:
            top.problem(name, f"at least one is needed; add a table [{name}.<name>]")
    return World(account, region, keys, instances, profiles, users, contacts)


def _ids_differ(kind: str, sections: Mapping[str, Section], things: Mapping[str, Any]) -> None:
    first: dict[tuple[str, str], str] = {}
    for name, thing in things.items():
        place = (getattr(thing, "instance_id", ""), thing.id)
        if thing.id and place in first:
            sections[name].problem("id", f"has the id of {kind}.{first[place]}; each needs its own")
        first.setdefault(place, name)


def _access_key(section: Section, name: str) -> AccessKey:
    key = AccessKey(
        id=name,
        secret=section.text("secret"),
        session_token=section.optional_text("session_token"),
        expires_at=section.optional_time("expires"),
    )
    section.finish()
    return key


def _instance(section: Section, name: str) -> Instance:
    instance = Instance(
        name=name,
        id=section.text("id"),
        service_linked_role=section.flag("service_linked_role", default=True),
        enhanced_contact_monitoring=section.flag("enhanced_contact_monitoring", default=True),
        enhanced_chat_monitoring=section.flag("enhanced_chat_monitoring", default=True),
    )
    section.finish()
    return instance


def _profile(section: Section, name: str, instances: Mapping[str, Instance]) -> SecurityProfile:
    profile = SecurityProfile(
        name=name,
        id=section.text("id"),
        instance_id=_id_of(section.reference("instance", instances)),
        permissions=section.texts("permissions"),
        tag_restricted_resources=section.texts("tag_restricted_resources"),
        access_control_tags=section.tags("access_control_tags"),
        hierarchy_restricted_resources=section.texts("hierarchy_restricted_resources"),
        hierarchy_group=section.optional_text("hierarchy_group"),
    )
    section.finish()
    return profile


def _user(
    section: Section, name: str, instances: Mapping[str, Instance], profiles: Mapping[str, SecurityProfile]
) -> User:
    instance_id = _id_of(section.reference("instance", instances))
    held = section.references("security_profiles", _of_instance(profiles, instance_id))
    hierarchy = section.texts("hierarchy")
    if not 1 <= len(held) <= PROFILES_PER_USER and "security_profiles" not in section.wrong:
        section.problem("security_profiles", f"a user has 1 to {PROFILES_PER_USER}, this one {len(held)}")
    if len(hierarchy) > LEVELS:
        section.problem("hierarchy", f"has {len(hierarchy)} levels; there are at most {LEVELS}")
    user = User(
        name=name,
        id=section.text("id"),
        instance_id=instance_id,
        security_profile_ids=tuple(profile.id for profile in held),
        online=section.flag("online", default=True),
        voice=section.flag("voice", default=True),
        concurrent_chats=section.count("concurrent_chats", default=3, most=10),
        desk_phone=section.optional_text("desk_phone"),
        tags=section.tags("tags"),
        hierarchy=hierarchy,
    )
    section.finish()
    return user


def _contact(section: Section, name: str, instances: Mapping[str, Instance], users: Mapping[str, User]) -> Contact:
    instance_id = _id_of(section.reference("instance", instances))
    agent = section.optional_reference("agent", _of_instance(users, instance_id))
    contact = Contact(
        name=name,
        id=section.text("id"),
        instance_id=instance_id,
        channel=section.choice("channel", CHANNELS, default="VOICE"),
        state=section.choice("state", CONTACT_STATES, default="CONNECTED"),
        agent_id=agent.id if agent else None,
        recording=section.flag("recording", default=True),
    )
    section.finish()
    return contact


def _id_of(instance: Instance | None) -> str:
    return instance.id if instance else ""


def _of_instance(things: Mapping[str, Thing], instance_id: str) -> dict[str, Thing]:
    # What stands in no instance, by a mistake reported already, counts for every one: a mistake is reported once.
    return {name: thing for name, thing in things.items() if not instance_id or thing.instance_id in {instance_id, ""}}

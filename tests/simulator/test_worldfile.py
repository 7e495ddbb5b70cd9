"""World files: the default one, and what a broken one is told, line by line."""

from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
from monitor_contact_service.simulator import WorldError, default_world, default_world_text, load_world, parse_world

_VALID = """\
account = "123456789012"
region = "us-east-1"

[access_keys.KEY]
secret = "secret"

[instances.main]
id = "i"

[security_profiles.supervisor]
id = "s"
instance = "main"

[users.sue] # a comment
id = "u"
instance = "main"
security_profiles = ["supervisor"]

[contacts.call]
id = "c"
instance = "main"
agent = "sue"
"""


def _problems(text: str) -> list[str]:
    with pytest.raises(WorldError) as caught:
        parse_world(text, "world.toml")
    return str(caught.value).splitlines()


def _broken(right: str, wrong: str) -> list[str]:
    assert right in _VALID
    return _problems(_VALID.replace(right, wrong, 1))


def test_the_default_world_is_whole() -> None:
    """Every id is a UUID as Connect's are, and every credential is visibly made up."""
    world = default_world()
    for section in (world.instances, world.users, world.contacts, world.security_profiles):
        assert all(str(UUID(thing.id)) == thing.id for thing in section.values())
    assert all("simulator" in key.secret for key in world.access_keys.values())
    assert next(iter(world.contacts)) == "call"


def test_secrets_do_not_show() -> None:
    """A key's representation, which ends in logs and test reports, has its id only."""
    assert "secret" not in repr(default_world().access_keys["AKIDSIMULATOR"]).replace("secret=", "")


def test_a_small_world_is_enough(tmp_path: Path) -> None:
    """What may be left out has the common value."""
    path = tmp_path / "world.toml"
    path.write_text(_VALID, encoding="utf-8")
    world = load_world(path)
    assert world.contacts["call"].agent_id == "u"
    assert (world.users["sue"].online, world.users["sue"].voice, world.instances["main"].service_linked_role) == (
        True,
        True,
        True,
    )


@pytest.mark.parametrize(
    ("region", "partition"),
    [("eu-central-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")],
)
def test_arns_are_of_the_regions_partition(region: str, partition: str) -> None:
    """China and GovCloud have their own."""
    arn = replace(default_world(), region=region).arn("i", "contact", "c")
    assert arn == f"arn:{partition}:connect:{region}:123456789012:instance/i/contact/c"


@pytest.mark.parametrize(
    ("right", "wrong", "problem"),
    [
        ('region = "us-east-1"\n', "", "world.toml:1: region: missing; add region = a Region such as "),
        ('"us-east-1"', '"Virginia"', "world.toml:2: region: must be a Region such as \"us-east-1\", not 'Virginia'"),
        ('"123456789012"', "123456789012", "world.toml:1: account: must be twelve digits in quotes such as"),
        ('secret = "secret"', "", "world.toml:4: access_keys.KEY.secret: missing; add secret = a text in quotes"),
        ('secret = "secret"', 'secret = ""', "world.toml:5: access_keys.KEY.secret: must be a text in quotes, not ''"),
        (
            'secret = "secret"',
            'secret = "s"\nexpires = 2030-01-01',
            "world.toml:6: access_keys.KEY.expires: must be a time with its zone such as 2026-01-31T12:00:00Z, not ",
        ),
        (
            'id = "i"',
            'id = "i"\nservce_linked_role = true',
            "world.toml:9: instances.main.servce_linked_role: unknown key; did you mean 'service_linked_role'?",
        ),
        ('id = "i"', 'id = "i"\nzzz = 1', "world.toml:9: instances.main.zzz: unknown key; known here: id, service_"),
        (
            'id = "i"',
            'id = "i"\nenhanced_chat_monitoring = "yes"',
            "world.toml:9: instances.main.enhanced_chat_monitoring: must be true or false, not 'yes'",
        ),
        ('[users.sue] # a comment\nid = "u"', "[users.sue]", "world.toml:14: users.sue.id: missing; add id = "),
        (
            'agent = "sue"',
            'agent = "su"',
            "world.toml:22: contacts.call.agent: names 'su', which does not exist here; ",
        ),
        (
            'agent = "sue"',
            'channel = "FAX"',
            "world.toml:22: contacts.call.channel: must be one of VOICE, CHAT, TASK, ",
        ),
        (
            '["supervisor"]',
            '["nobody"]',
            "world.toml:17: users.sue.security_profiles: names 'nobody', which does not exist here; there are: ",
        ),
        ('["supervisor"]', "[]", "world.toml:17: users.sue.security_profiles: a user has 1 to 10, this one 0"),
        (
            '["supervisor"]',
            '"supervisor"',
            "world.toml:17: users.sue.security_profiles: must be a list of texts such as",
        ),
        (
            '["supervisor"]',
            '["supervisor"]\nhierarchy = ["1", "2", "3", "4", "5", "6"]',
            "world.toml:18: users.sue.hierarchy: has 6 levels; there are at most 5",
        ),
        (
            '["supervisor"]',
            '["supervisor"]\nconcurrent_chats = 11',
            "world.toml:18: users.sue.concurrent_chats: must be a whole number from 0 to 10, not 11",
        ),
        (
            '["supervisor"]',
            '["supervisor"]\ntags = { Team = 1 }',
            'world.toml:18: users.sue.tags: must be tags such as { Team = "blue" }, not ',
        ),
        ("[contacts.call]", "[contact.call]", "world.toml:19: contact: unknown key; did you mean 'contacts'?"),
        (
            '[instances.main]\nid = "i"',
            '[instances.main]\nid = "i"\n[instances."other one"]\nid = "i"',
            "world.toml:10: instances.other one.id: has the id of instances.main; each needs its own",
        ),
        (
            '[access_keys.KEY]\nsecret = "secret"',
            "",
            "world.toml:1: access_keys: at least one is needed; add a table [access_keys.<name>]",
        ),
        (
            '[access_keys.KEY]\nsecret = "secret"',
            '[access_keys]\nsecret = "secret"',
            "world.toml:4: access_keys: must be tables, each under its own [access_keys.<name>], not ",
        ),
    ],
)
def test_one_mistake_is_one_problem_with_its_line(right: str, wrong: str, problem: str) -> None:
    """File, line, key, what is wrong and what would be right; nothing else is reported with it."""
    (line,) = _broken(right, wrong)
    assert line.startswith(problem)


def test_all_problems_are_told_at_once_in_order() -> None:
    """One run, one list: nobody mends a file line by line."""
    text = _VALID.replace('"us-east-1"', "1").replace('secret = "secret"', "secret = 1").replace('id = "c"', "")
    assert [line.split(":")[1] for line in _problems(text)] == ["2", "5", "19"]


def test_a_wrong_instance_is_one_problem() -> None:
    """What hangs on the wrong reference is not reported as well."""
    lines = _broken('instance = "main"\nsecurity_profiles', 'instance = "mian"\nsecurity_profiles')
    assert lines == ["world.toml:16: users.sue.instance: names 'mian', which does not exist here; did you mean 'main'?"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a = 1\nb\n", "world.toml:2: not TOML: Expected '=' after a key in a key/value pair at column 2; "),
        ("a = 1\na = 2\n", "world.toml:2: not TOML: "),
        ('a = """\n\n', "world.toml:2: not TOML: Unterminated string; "),
        ("", "world.toml:1: account: missing; add account = "),
    ],
)
def test_what_is_not_toml_is_told_with_its_line(text: str, problem: str) -> None:
    """The parser's own reason, in the common form."""
    assert _problems(text)[0].startswith(problem)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """Absent, or not UTF-8: with the path, and the line where there is one."""
    absent, latin = tmp_path / "absent.toml", tmp_path / "latin.toml"
    latin.write_bytes(b"# one\n# \xe9\n")
    with pytest.raises(WorldError, match=r"absent\.toml:1: cannot be read: No such file or directory"):
        load_world(absent)
    with pytest.raises(WorldError, match=r"latin\.toml:2: is not UTF-8 text; save the file as UTF-8"):
        load_world(str(latin))


def test_the_default_worlds_text_is_its_file() -> None:
    """What is printed to copy is what runs."""
    assert parse_world(default_world_text(), "copy.toml") == default_world()


def test_a_change_names_what_does_not_exist() -> None:
    """A mistyped name or fact in a test is an error."""
    with pytest.raises(KeyError):
        default_world().change("users", "nobody", online=False)
    with pytest.raises(TypeError):
        default_world().change("users", "sue", offline=True)

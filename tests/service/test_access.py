"""`access`: the file of identities, roles and tenants becomes one value, or a list of what is wrong with it."""

from pathlib import Path

import pytest
from monitor_contact_service.access import OPEN_ACCESS, Access, read_access
from monitor_contact_service.settings import ConfigurationError

_WHOLE = """
trust_domains = ["corp.example"]
dns_names = true

[[issuers]]
issuer = "https://login.corp.example"
identifies = "end-users"
audience = "monitor-contact"
algorithms = ["ES256"]
keys = "https://login.corp.example/keys"

[forwarded]
proxy = "spiffe://corp.example/gateway"

[instances.main]
tenant = "corp"

[callers."spiffe://corp.example/qa-desk"]
roles = ["qa"]
tenant = "corp"

[callers."spiffe://corp.example/coach"]
acts_for_others = true

[callers."dns:batch.corp.example"]
"""
_ISSUER = '[[issuers]]\nissuer = "https://a"\nkeys = "k"\naudience = "m"\n'


def _read(folder: Path, text: str) -> Access:
    path = folder / "access.toml"
    path.write_text(text)
    return read_access(str(path))


def _problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as raised:
        _read(folder, text)
    return [problem.removeprefix(f"{folder / 'access.toml'}: ") for problem in raised.value.problems]


def test_the_whole_file_is_read(tmp_path: Path) -> None:
    """Every table ends up where it belongs, with the defaults of what it leaves out."""
    access = _read(tmp_path, _WHOLE)

    assert access.caller("spiffe://corp.example/qa-desk").roles == ("qa",)
    assert access.caller("spiffe://corp.example/coach").acts_for_others
    assert access.caller("spiffe://corp.example/coach").tenant == "default"
    assert [issuer.algorithms for issuer in access.issuers] == [("ES256",)]
    assert access.identifies_by_certificate
    assert not access.identifies_by_token
    assert access.forwarded is not None


def test_tokens_of_kubernetes_identify_callers(tmp_path: Path) -> None:
    """Where no certificate does; RS256 is what they are signed with."""
    access = _read(tmp_path, f'{_ISSUER}tokens = "kubernetes"\n[callers."k8s:prod:coach"]')

    assert access.identifies_by_token
    assert access.issuers[0].algorithms == ("RS256",)
    assert access.caller("k8s:prod:coach").tenant == "default"


def test_two_sources_of_callers_are_refused(tmp_path: Path) -> None:
    """Certificates would decide, and the issuers never be asked: their author believes otherwise."""
    [problem] = _problems(tmp_path, f'trust_domains = ["corp.example"]\n{_ISSUER}')
    assert "remove one of the two" in problem


def test_two_clusters_are_not_mixed_up(tmp_path: Path) -> None:
    """The same account of another cluster would be the same caller; as issuers for end-users, clusters may be many."""
    clusters = "".join(
        f'[[issuers]]\nissuer = "https://{name}"\ntokens = "kubernetes"\nkeys = "k"\naudience = "m"\n{{0}}'
        for name in ("a", "b")
    )
    [problem] = _problems(tmp_path, clusters.format(""))
    assert problem.startswith('issuers: one issuer with tokens = "kubernetes" at most may identify callers')
    assert "without the cluster" in problem
    assert len(_read(tmp_path, clusters.format('identifies = "end-users"\n')).issuers) == 2


@pytest.mark.parametrize(
    "proxy",
    [
        "spiffe://other.example/gateway",
        "spiffe://corp.example",
        "spiffe://corp.example/gate%20way",
        "dns:*.corp.example",
        "dns:Gateway.corp.example",
        "gateway.corp.example",
        "k8s:prod:gateway",
    ],
)
def test_a_proxy_that_nobody_could_be_is_refused(tmp_path: Path, proxy: str) -> None:
    """Whatever the real proxy forwards would be refused, call by call."""
    [problem] = _problems(tmp_path, _WHOLE.replace("spiffe://corp.example/gateway", proxy))
    assert problem.startswith("forwarded: proxy: no certificate that is accepted here proves this id")


def test_a_proxy_may_be_known_by_its_name(tmp_path: Path) -> None:
    """Those for whom it speaks have SPIFFE IDs all the same, so there must be trust domains."""
    named = _read(tmp_path, _WHOLE.replace("spiffe://corp.example/gateway", "dns:gateway.corp.example"))
    assert named.forwarded is not None
    assert _problems(tmp_path, 'dns_names = true\n[forwarded]\nproxy = "dns:gateway.corp.example"') == [
        "forwarded: needs trust_domains: a proxy speaks for callers with SPIFFE IDs"
    ]
    [unnamed] = _problems(tmp_path, 'trust_domains = ["corp.example"]\n[forwarded]\nproxy = "dns:gateway.corp.example"')
    assert unnamed.startswith("forwarded: proxy: ")


def test_an_unnamed_caller_has_neither_role_nor_tenant(tmp_path: Path) -> None:
    """Nothing is granted by being known to the network: the policy's default is to deny."""
    nobody = _read(tmp_path, _WHOLE).caller("spiffe://corp.example/other")

    assert (nobody.roles, nobody.tenant, nobody.acts_for_others) == ((), "", False)


def test_instances_are_an_allow_list_once_there_are_some(tmp_path: Path) -> None:
    """Without any, all belong to the one tenant that there is; with some, the others belong to none."""
    assert Access().tenant_of("anything") == "default"
    access = _read(tmp_path, _WHOLE)
    assert access.tenant_of("main") == "corp"
    assert access.tenant_of("MAIN") == ""


def test_without_a_file_only_the_anonymous_caller_is_known() -> None:
    """What loopback without identities works with."""
    assert OPEN_ACCESS.caller("anonymous").roles == ("demo",)
    assert not OPEN_ACCESS.identifies_by_token
    assert not OPEN_ACCESS.identifies_by_certificate


@pytest.mark.parametrize(
    "caller",
    [
        "spiffe://other.example/qa",
        "spiffe:corp.example",
        "k8s:only-a-namespace",
        "oidc:https://login.corp.example#me",
        "oidc:https://other.example#me",
        "qa-desk",
        "anonymous:x",
        "dns:",
        "spiffe://corp.example",
        "spiffe://corp.example/quality desk",
        "dns:Batch.corp.example",
    ],
)
def test_roles_of_a_caller_that_cannot_come_are_refused(tmp_path: Path, caller: str) -> None:
    """A name that no identity of this file can have is a mistake: its roles would never be used."""
    [said] = _problems(tmp_path, f'{_WHOLE}\n[callers."{caller}"]\n')
    assert said.startswith(f"callers.{caller!r}: nothing here identifies such a caller; ids are spiffe://")


def test_every_caller_that_cannot_come_is_told(tmp_path: Path) -> None:
    """Beside what is wrong with the shape of others: one run tells all."""
    said = _problems(
        tmp_path,
        f'{_WHOLE}\n[callers."qa-desk"]\n[callers."spiffe://other.example/qa"]\n[callers."dns:a"]\nrole = ["qa"]\n'
        '[instances.other]\nname = "x"\n',
    )
    assert [problem.split(": ")[0] for problem in said] == [
        "callers.'qa-desk'",
        "callers.'spiffe://other.example/qa'",
        "callers.dns:a.role",
        "instances.other.name",
    ]


@pytest.mark.parametrize("misspelt", ['trust_domain = ["corp.example"]', 'trust_domains = "corp.example"'])
def test_what_identifies_is_mended_before_callers_are_judged(tmp_path: Path, misspelt: str) -> None:
    """One mistake does not let every caller and the proxy look impossible."""
    [problem] = _problems(tmp_path, _WHOLE.replace('trust_domains = ["corp.example"]', misspelt))
    assert problem.startswith("trust_domain")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("trust_domains = [\n=", "line 2"),
        ('trust_domain = ["corp.example"]', "trust_domain: Extra inputs are not permitted"),
        ('trust_domains = ["Corp.Example"]', "trust_domains.0: "),
        ('[[issuers]]\nissuer = "https://a"\nkeys = "k"', "issuers.0.audience: Field required"),
        (
            '[[issuers]]\nissuer = "https://a"\nkeys = "k"\naudience = "m"\nalgorithms = ["HS256"]',
            "issuers.0.algorithms.0",
        ),
        ('[[issuers]]\nissuer = "https://a"\nkeys = "k"\naudience = "m"\nalgorithms = []', "issuers.0.algorithms"),
        (2 * '[[issuers]]\nissuer = "https://a"\nkeys = "k"\naudience = "m"\n', "issuers: each issuer may stand once"),
        ('[instances.main]\nname = "x"', "instances.main.name: "),
        ("dns_names = 1.5", "dns_names: "),
    ],
)
def test_each_fault_names_its_place(tmp_path: Path, text: str, said: str) -> None:
    """Line or key, so that it can be mended without guessing."""
    assert said in _problems(tmp_path, text)[0]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Missing, or no text at all."""
    with pytest.raises(ConfigurationError, match=r"access\.toml: No such file"):
        read_access(str(tmp_path / "access.toml"))
    (tmp_path / "access.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match=r"access\.toml: "):
        read_access(str(tmp_path / "access.toml"))

"""`core.forwarded`: whom one element of Envoy's header names."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitor_contact_service.core.failures import Failure, Reason
from monitor_contact_service.core.forwarded import forwarded_uri

_ID = "spiffe://corp.example/qa-desk"
_HASH = "Hash=" + "ab" * 32


def _refusal(header: str) -> str:
    with pytest.raises(Failure) as caught:
        forwarded_uri(header)
    assert caught.value.reason is Reason.UNAUTHENTICATED
    return caught.value.log_text


@pytest.mark.parametrize(
    "header",
    [
        f"URI={_ID}",
        f'URI="{_ID}"',
        f"uri={_ID}",
        f'By=spiffe://corp.example/proxy;{_HASH};Subject="CN=a,O=b";URI={_ID};DNS=a.example;DNS=b.example',
        f'{_HASH};Cert="-----BEGIN%20CERTIFICATE-----%0A";URI={_ID};Chain="x"',
        f'By=;{_HASH};URI={_ID};Subject=""',
        rf'Subject="O=\"\;URI=spiffe://evil.example/x";URI={_ID}',
        rf'Subject="O=a\\";URI={_ID}',
        f'Subject="O=a,URI=spiffe://evil.example/x;URI=spiffe://evil.example/y";URI={_ID}',
    ],
)
def test_the_one_uri_of_the_one_element_is_named(header: str) -> None:
    """Keys in any case, quoted values or not; nothing inside quotes is a pair or another element."""
    assert forwarded_uri(header) == _ID


@pytest.mark.parametrize(
    "header",
    [
        "",
        _ID,
        ";",
        f"URI={_ID};",
        f";URI={_ID}",
        f"{_HASH};;URI={_ID}",
        f"URI={_ID},{_HASH}",
        f"{_HASH},URI={_ID}",
        f"URI={_ID},URI={_ID}",
        f"URI={_ID},",
        f'URI="{_ID}',
        f'URI={_ID}"',
        f'URI="{_ID}"x',
        f'URI=x"{_ID}"',
        f"={_ID}",
        f"URI ={_ID}",
        f"{_HASH}; URI={_ID}",
        f"URI={_ID}?a=b",
        f"URI={_ID}\\",
        rf'Subject="O=a\";URI={_ID}',
        rf'Subject="O=a\\"x";URI={_ID}',
        f"U\N{LATIN SMALL LETTER DOTLESS I}={_ID}",
        f"URI={_ID}\n;",
    ],
)
def test_anything_but_one_well_formed_element_names_nobody(header: str) -> None:
    """Two elements, open quotes, text after quotes, blanks and empty pairs are refused as a whole."""
    assert _refusal(header) == "forwarded certificate is not exactly one well-formed element"


@pytest.mark.parametrize(
    "header",
    [
        _HASH,
        f"{_HASH};DNS=a.example",
        f'Subject="URI={_ID}"',
        f"URI={_ID};URI=spiffe://corp.example/other",
        f"URI={_ID};URI={_ID}",
        f"URI={_ID};uri=",
        f"URI=;DNS=x;URI={_ID}",
    ],
)
def test_exactly_one_uri_counts(header: str) -> None:
    """None or several name nobody, also when they are equal, empty, or came through an unescaped DNS SAN."""
    assert _refusal(header) == "forwarded certificate has not exactly one URI"


def test_an_empty_uri_is_returned_for_the_grammar_to_refuse() -> None:
    """Envoy writes `URI=` for a certificate without one."""
    assert forwarded_uri("URI=") == forwarded_uri('URI=""') == ""


def _quote(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


_PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40)
_OTHER_PAIRS = st.lists(
    st.tuples(st.sampled_from(["By", "Hash", "Cert", "Chain", "Subject", "DNS"]), _PRINTABLE.map(_quote)).map("=".join),
    max_size=5,
)


@settings(deadline=None)
@given(before=_OTHER_PAIRS, after=_OTHER_PAIRS)
def test_no_text_of_other_values_changes_who_is_named(before: list[str], after: list[str]) -> None:
    """Whatever stands, escaped, in the other pairs: the URI is the proxy's."""
    assert forwarded_uri(";".join([*before, f"URI={_ID}", *after])) == _ID


@settings(deadline=None)
@given(pairs=_OTHER_PAIRS)
def test_no_text_of_other_values_makes_a_uri(pairs: list[str]) -> None:
    """Without a URI pair nobody is named."""
    with pytest.raises(Failure):
        forwarded_uri(";".join(pairs))


@settings(deadline=None)
@given(first=_OTHER_PAIRS, second=_OTHER_PAIRS)
def test_two_elements_never_name_anybody(first: list[str], second: list[str]) -> None:
    """A second element is seen whatever the values hold."""
    with pytest.raises(Failure):
        forwarded_uri(";".join([*first, f"URI={_ID}"]) + "," + ";".join(second))


@settings(deadline=None, max_examples=300)
@given(st.text('URIuri=;,"\\ aB:/\n', max_size=60) | st.text(max_size=60))
def test_any_text_ends_in_a_name_that_stands_in_it_or_a_refusal(header: str) -> None:
    """The parser raises nothing but its refusal, and invents nothing."""
    try:
        name = forwarded_uri(header)
    except Failure:
        return
    assert name in header
    assert "uri=" in header.lower()


def test_long_hostile_headers_take_no_quadratic_time() -> None:
    """Half a million characters of each awkward kind are judged at once: a quadratic parser would take minutes."""
    for part in ('"', "\\", "a=", "a=;", 'a="\\"', ";", "URI=", 'a="";'):
        with pytest.raises(Failure):
            forwarded_uri(part * (500_000 // len(part)))

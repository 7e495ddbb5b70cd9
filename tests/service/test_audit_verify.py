"""`audit_verify`: the command over files as writers leave them, whole, torn, tampered with, and its exit codes."""

import argparse
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from audit_chains import CHAIN, KEY, OTHER_KEY, Chain, dozen
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from monitor_contact_service.audit_segments import EXTENT_BYTES, Disk
from monitor_contact_service.audit_verify import UncheckedError, audit_verify
from monitor_contact_service.audit_writer import Checkpoints, Rotation, Writer
from monitor_contact_service.core import record

WHOLE, TAMPERED, TORN, OPEN, UNCHECKED = 0, 1, 2, 3, 4
RESERVE = bytes(EXTENT_BYTES)


def verify(*files: Path, anchor: tuple[str, ...] = (), pubkey: tuple[Path, ...] = ()) -> int:
    """Run the command; return its exit code."""
    return audit_verify(
        argparse.Namespace(
            files=[str(file) for file in files], anchor=list(anchor), pubkey=[str(key) for key in pubkey]
        )
    )


def written(folder: Path, name: str, data: bytes) -> Path:
    """Return a new file with this content."""
    path = folder / name
    path.write_bytes(data)
    return path


def split(folder: Path, chain: Chain, *, at: tuple[int, ...] = (5, 9), reserve: bytes = b"") -> list[Path]:
    """Return the files of a chain that was closed before these lines; the last one is still written."""
    ends = [*at, len(chain.lines)]
    files = []
    for begin, end in zip([0, *at], ends, strict=True):
        name = "audit.jsonl" if end == ends[-1] else f"audit.jsonl.{begin + 1:012}"
        data = b"".join(chain.lines[begin:end]) + (reserve if end == ends[-1] else b"")
        files.append(written(folder, name, data))
    return files


@pytest.fixture
def public_key(tmp_path: Path) -> Path:
    """The public half of KEY, as openssl writes it."""
    pem = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return written(tmp_path, "key.pem", pem)


@pytest.mark.parametrize("reserve", [b"", RESERVE])
def test_whole_files_in_any_order(
    tmp_path: Path, public_key: Path, capsys: pytest.CaptureFixture[str], reserve: bytes
) -> None:
    """They are put in order by their first records; the zero bytes of a reserve are no fault."""
    chain = dozen()
    files = split(tmp_path, chain, reserve=reserve)
    files.reverse()

    assert verify(*files, anchor=(f"{chain.head.seq}:{chain.head.hash}",), pubkey=(public_key,)) == WHOLE
    output = capsys.readouterr().out
    assert "writer aa: seq 1 to 13 in 3 files, 2026-01-02T03:04:05.000006Z to 2026-01-02T03:04:05.000006Z" in output
    assert f"the last line has the hash {chain.head.hash}" in output
    assert "signed up to seq 13" in output
    assert "begins" not in output
    assert "not checked" not in output


def test_what_was_not_checked_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a key, a chain that was written anew is whole: nobody may take this for a proof."""
    assert verify(*split(tmp_path, dozen())) == WHOLE
    assert "  signatures not checked: no --pubkey\n" in capsys.readouterr().out


def test_files_of_the_writer_itself(tmp_path: Path, public_key: Path) -> None:
    """What `audit_writer` writes over rotations, checkpoints and a restart is whole."""
    for _ in range(2):
        writer = Writer(
            tmp_path / "audit.jsonl",
            rotation=Rotation(bytes=3_000, seconds=1e6),
            checkpoints=Checkpoints(seconds=1e6, records=7, key=KEY),
            utc_now=lambda: datetime(2026, 1, 2, tzinfo=UTC),
            clock=lambda: 0.0,
            random_bytes=os.urandom,
            disk=Disk(),
        )
        writer.open()
        for _ in range(20):
            [seq], _ = writer.write([{"id": "r", "stage": "intent", "ticket": 'A"\u2028'}])
            writer.write([record.recovered("r", seq), {"id": "r", "stage": "denied"}])
        assert verify(*tmp_path.glob("audit.jsonl*"), pubkey=(public_key,)) == WHOLE
        writer.close()
        writer.release()

    files = list(tmp_path.glob("audit.jsonl*"))
    assert len(files) > 3
    assert verify(*files, pubkey=(public_key,)) == WHOLE


def test_older_files_may_be_left_out_and_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was before the first file is not known."""
    assert verify(*split(tmp_path, dozen())[1:]) == WHOLE
    assert "begins at seq 6: what was before is not known" in capsys.readouterr().out


def test_a_file_that_is_missing_between_others_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The next one begins with a number that does not follow."""
    first, _, last = split(tmp_path, dozen())

    assert verify(first, last) == TAMPERED
    assert f"TAMPERED {last}, byte 0: seq is 10, it must be 6" in capsys.readouterr().out


def test_an_edit_is_told_by_file_and_byte(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The place is where the line begins; in another file than the line that shows it, too."""
    chain = dozen()
    first, *others = split(tmp_path, chain)
    first.write_bytes(first.read_bytes().replace(b'"count":4', b'"count":5'))
    offset = sum(len(line) for line in chain.lines[:4])

    assert verify(first, *others) == TAMPERED
    assert f"TAMPERED {first}, byte {offset}: the checkpoint's count must be 4" in capsys.readouterr().out

    first.write_bytes(chain.data[:offset] + chain.lines[4].replace(b'"id":"c"', b'"id":"d"'))

    assert verify(first, *others) == TAMPERED
    expected = f"TAMPERED {first}, byte {offset}: not the line that the next one (seq 6) names in prev"
    assert expected in capsys.readouterr().out


def test_the_same_file_twice_counts_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As two patterns of a shell name it, or a link; a copy would bring its records a second time."""
    files = split(tmp_path, dozen(), reserve=RESERVE)
    link = tmp_path / "link"
    link.symlink_to(files[2])

    assert verify(*files, files[2], link) == WHOLE
    assert "in 3 files" in capsys.readouterr().out
    assert verify(*files, written(tmp_path, "copy", files[1].read_bytes())) == TAMPERED


@pytest.mark.parametrize("reserve", [b"", RESERVE])
@pytest.mark.parametrize("cut", [1, 2, 100])
def test_a_torn_tail_is_told_and_no_fault_of_anybody(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], cut: int, reserve: bytes
) -> None:
    """A process that was killed in a write leaves a line without its end, with or without a reserve behind it."""
    chain = dozen()
    data = chain.data[:-cut]
    file = written(tmp_path, "audit.jsonl", data + reserve)
    begin = len(data) - len(chain.lines[-1]) + cut

    assert verify(file) == TORN
    expected = f"torn {file}, byte {begin}: {len(chain.lines[-1]) - cut} bytes of a write that was not finished"
    assert expected in capsys.readouterr().out


def test_holes_of_a_stopped_machine_are_a_torn_tail(tmp_path: Path) -> None:
    """Whole sectors of the last write may be missing; less than a sector is an edit."""
    chain = dozen()
    begin = sum(len(line) for line in chain.lines[:3])
    data = bytearray(chain.data)
    data[begin + 10 : begin + 10 + 600] = bytes(600)
    assert verify(written(tmp_path, "holes", bytes(data))) == OPEN  # seq 2 has lost its outcome

    data = bytearray(chain.data)
    data[begin + 10 : begin + 10 + 500] = bytes(500)
    assert verify(written(tmp_path, "zeros", bytes(data))) == TAMPERED


@pytest.mark.parametrize("left", [b"", b"\0" * 100])
def test_a_closed_file_has_neither_a_torn_tail_nor_a_reserve(tmp_path: Path, left: bytes) -> None:
    """It was ended before its successor was begun."""
    chain = dozen()
    files = split(tmp_path, chain)
    files[0].write_bytes(files[0].read_bytes()[: None if left else -1] + left)

    assert verify(*files) == TAMPERED


def test_a_file_whose_first_line_is_torn(tmp_path: Path) -> None:
    """A process can be killed in the first write after a rotation."""
    chain = dozen()
    first, *_ = split(tmp_path, chain, at=(5,))
    torn = written(tmp_path, "audit.jsonl", chain.lines[5][:20] + RESERVE)

    assert verify(first, torn) == TORN


def test_a_first_line_that_nobody_wrote_is_tampering(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Even if nobody can say whose file it is."""
    file = written(tmp_path, "audit.jsonl", b"{}\n" + dozen().data)

    assert verify(file) == TAMPERED
    assert f"TAMPERED {file}, byte 0: the line is not a record" in capsys.readouterr().out


def test_a_tail_cut_off_at_a_line_is_found_by_an_anchor_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So anchors are kept where the audit's disk is not."""
    chain = dozen()
    file = written(tmp_path, "audit.jsonl", b"".join(chain.lines[:9]))
    anchor = f"{chain.head.seq}:{chain.head.hash}"

    assert verify(file) == OPEN  # seq 6 has lost its outcome
    assert verify(file, anchor=(anchor,)) == TAMPERED
    assert "TAMPERED there is no line with seq 13, which an anchor names" in capsys.readouterr().out


def test_a_chain_written_anew_is_found_by_anchor_or_key(tmp_path: Path, public_key: Path) -> None:
    """Hashes alone can be made by anybody."""
    chain, anew = dozen(), dozen("another", key=OTHER_KEY)
    file = written(tmp_path, "audit.jsonl", anew.data)

    assert verify(file) == WHOLE
    assert verify(file, anchor=(f"{chain.head.seq}:{chain.head.hash}",)) == TAMPERED
    assert verify(file, pubkey=(public_key,)) == TAMPERED


@pytest.mark.parametrize("content", [b"", RESERVE, b'{"v":1,"seq"'])
def test_nothing_is_said_of_files_without_a_record(
    tmp_path: Path, public_key: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    """Nobody can tell one that was emptied from one that was not written yet; an anchor can."""
    chain = dozen()
    file = written(tmp_path, "audit.jsonl", content)

    for pubkey in ((), (public_key,)):
        assert verify(file, pubkey=pubkey) == UNCHECKED
        output = capsys.readouterr().out
        assert "nothing was verified: no file has a record\n" in output
        assert (f"{file}: no record\n" if content in {b"", RESERVE} else f"torn {file}, byte 0: 12 bytes") in output
    assert verify(file, anchor=(f"{chain.head.seq}:{chain.head.hash}",)) == TAMPERED
    assert "nothing was verified" not in capsys.readouterr().out


def test_a_file_without_a_record_is_told_beside_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The others have a verdict."""
    empty = written(tmp_path, "empty", b"")

    assert verify(empty, *split(tmp_path, dozen())) == WHOLE
    assert f"{empty}: no record\n" in capsys.readouterr().out


def test_a_first_write_that_was_not_finished_is_torn(tmp_path: Path, public_key: Path) -> None:
    """It has the first record and the first signature: what is left of it holds no call to vouch for."""
    chain = Chain(key=KEY)
    chain.add("segment")
    chain.checkpoint()
    for cut in range(1, len(chain.lines[1])):
        assert verify(written(tmp_path, "torn", chain.data[:-cut] + RESERVE), pubkey=(public_key,)) == TORN

    assert verify(written(tmp_path, "cut", chain.lines[0]), pubkey=(public_key,)) == TAMPERED
    unsigned = Chain()
    unsigned.add("segment")
    unsigned.intent()
    assert verify(written(tmp_path, "unsigned", unsigned.data + b"{"), pubkey=(public_key,)) == TAMPERED


def test_open_intents_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They win over a torn tail, which a killed process leaves with them, and are not named without end."""
    chain = Chain()
    for number in range(21):
        chain.intent(f"r{number}")
    file = written(tmp_path, "audit.jsonl", chain.data + b'{"v"')

    assert verify(file) == OPEN
    output = capsys.readouterr().out
    assert f"open intent: seq 20 of {CHAIN}, request r19\n" in output
    assert "seq 21 of" not in output
    assert "open intents: 21 in all" in output


def test_tampering_wins_over_all_else(tmp_path: Path) -> None:
    """An open intent in one writer's files does not hide a fault in another's."""
    chain, other = Chain(), dozen()
    chain.name = "bb/1"
    chain.intent()
    files = [written(tmp_path, "b", chain.data + b"{"), written(tmp_path, "a", b"".join(other.lines[:2] * 2))]

    assert verify(files[0]) == OPEN
    assert verify(*files) == TAMPERED


def test_an_intent_that_another_writer_has_closed(tmp_path: Path) -> None:
    """A chain of PostgreSQL is whole together with its successor's."""
    dead, successor = Chain("aa/aa"), Chain("bb/bb")
    dead.intent()
    successor.outcome(1, stage="recovered", of_chain="aa/aa")
    files = [written(tmp_path, "dead", dead.data), written(tmp_path, "successor", successor.data)]

    assert verify(files[0]) == OPEN
    assert verify(*files) == WHOLE


def test_several_keys_after_one_was_replaced(tmp_path: Path, public_key: Path) -> None:
    """Each checkpoint names its key."""
    chain = dozen()
    chain.key = OTHER_KEY
    chain.add("segment")
    chain.checkpoint()
    file = written(tmp_path, "audit.jsonl", chain.data)
    pem = OTHER_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    second = written(tmp_path, "second.pem", pem)

    assert verify(file, pubkey=(public_key,)) == TAMPERED
    assert verify(file, pubkey=(public_key, second)) == WHOLE


def _private_pem() -> bytes:
    return KEY.private_bytes(Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _other_kind() -> bytes:
    key = generate_private_key(SECP256R1()).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("pem", [b"", b"no key", _private_pem(), _other_kind()])
def test_a_file_that_is_no_public_key_is_not_taken_for_tampering(tmp_path: Path, pem: bytes) -> None:
    """The exit code says that nothing was checked, the message what is needed."""
    file = written(tmp_path, "audit.jsonl", dozen().data)

    with pytest.raises(UncheckedError, match=r"--pubkey: .*bad.pem: must be a PEM file") as raised:
        verify(file, pubkey=(written(tmp_path, "bad.pem", pem),))
    assert raised.value.exit_code == UNCHECKED


@pytest.mark.parametrize("anchor", ["", "13", "13:abc", "0:" + "0" * 64, "-1:" + "0" * 64, "1:" + "G" * 64])
def test_an_anchor_must_be_seq_and_hash(tmp_path: Path, anchor: str) -> None:
    """An anchor that says nothing would be an anchor that nobody notices."""
    with pytest.raises(UncheckedError, match="must be SEQ:HASH"):
        verify(written(tmp_path, "audit.jsonl", dozen().data), anchor=(anchor,))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Neither a missing file nor a missing key is a verdict."""
    with pytest.raises(UncheckedError, match=r"cannot read .*gone: No such file"):
        verify(tmp_path / "gone")
    with pytest.raises(UncheckedError, match=r"cannot read /proc/self/mem: Input/output error"):
        verify(Path("/proc/self/mem"))  # can be opened
    with pytest.raises(UncheckedError, match=r"--pubkey: .*gone: No such file"):
        verify(tmp_path, pubkey=(tmp_path / "gone",))


def _said(shell_command: str, file: Path) -> tuple[int, str, str]:
    """Run `audit verify FILE` with this redirection or pipe behind it, in a shell."""
    program = "import sys; from monitor_contact_service.cli import main; sys.exit(main())"
    script = f'set -o pipefail; "$1" -c "$2" audit verify "$3" {shell_command}'
    ended = subprocess.run(
        ["bash", "-c", script, "bash", sys.executable, program, str(file)],
        env={**os.environ, "PYTHONUNBUFFERED": ""},  # so that some of it is written only at the end
        check=False,
        capture_output=True,
        text=True,
    )
    return ended.returncode, ended.stdout, ended.stderr


def test_a_reader_that_leaves_is_no_verdict(tmp_path: Path) -> None:
    """`| head -1` ends it quietly, as SIGPIPE ends other programs: not with the code for tampering."""
    chains = [Chain(f"{number:08x}/1") for number in range(2000)]
    for chain in chains:
        chain.intent()
    files = [written(tmp_path, chain.name.partition("/")[0], chain.data) for chain in chains]

    assert _said("| true", files[0]) == (141, "", "")
    assert _said(f"{tmp_path}/* | head -1", files[0])[::2] == (141, "")


def test_a_verdict_that_cannot_be_written_is_none(tmp_path: Path) -> None:
    """A full disk is not tampering either."""
    file = written(tmp_path, "audit.jsonl", dozen().data)

    problem = "monitor-contact: cannot write to standard output: No space left on device\n"
    assert _said("> /dev/full", file) == (UNCHECKED, "", problem)

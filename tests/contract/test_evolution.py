"""The contract stands alone, keeps buf's rules, and cannot be broken unseen. buf comes with the development tools."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAME = "monitor_contact/v1/monitor_contact.proto"
CONTRACT = (ROOT / "proto" / NAME).read_text("utf-8")
BUF = Path(sys.executable).parent / "buf"
GENERATOR = ROOT / ".tools" / "generator" / "bin" / "python"


def buf(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run buf in `folder`; nothing is fetched, because the contract imports nothing."""
    command = [str(BUF), *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def module(folder: Path, contract: str = CONTRACT) -> Path:
    """Write a buf module that holds only this contract, under the rules of the real one."""
    target = folder / "proto" / NAME
    target.parent.mkdir(parents=True)
    target.write_text(contract, "utf-8")
    shutil.copy(ROOT / "buf.yaml", folder)
    return folder


def test_the_one_file_compiles_in_an_empty_folder(tmp_path: Path) -> None:
    """Third parties need this one file and no other, with protoc as with buf."""
    (tmp_path / "monitor_contact.proto").write_text(CONTRACT, "utf-8")
    protoc = [str(GENERATOR), "-m", "grpc_tools.protoc", "-I.", "--descriptor_set_out=out.binpb"]

    built = buf("build", ".", "-o", "out.binpb", folder=tmp_path)
    if GENERATOR.exists():  # after `make generate`, and so in CI
        built = subprocess.run(
            [*protoc, "monitor_contact.proto"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )

    assert built.returncode == 0, built.stderr
    assert (tmp_path / "out.binpb").stat().st_size > 0


def test_the_contract_keeps_the_rules_of_buf_lint() -> None:
    """STANDARD, COMMENTS and UNARY_RPC, for every file under proto/."""
    lint = buf("lint", folder=ROOT)

    assert lint.returncode == 0, lint.stdout + lint.stderr


@pytest.mark.parametrize(
    ("pattern", "replacement", "rule"),
    [
        (r"string contact_id = 2;", "string contact = 2;", "FIELD_SAME_NAME"),
        (r"string user_id = 3;", "bytes user_id = 3;", "FIELD_SAME_TYPE"),
        (r"string client_token = 5;", "string client_token = 6;", "FIELD_NO_DELETE"),
        (r"repeated MonitorCapability", "MonitorCapability", "FIELD_SAME_CARDINALITY"),
        (r"(MONITOR_CAPABILITY_BARGE) = 2;", r"\1 = 3;", "ENUM_VALUE_NO_DELETE"),
        (r"(?m)^  ERROR_REASON_THROTTLED = 15;$", "", "ENUM_VALUE_NO_DELETE"),
        (r"ERROR_REASON_THROTTLED", "ERROR_REASON_THROTTLING", "ENUM_VALUE_SAME_NAME"),
        (r"(?m)^  rpc MonitorContact.+$", "", "RPC_NO_DELETE"),
        (r"returns \(MonitorContactResponse\)", "returns (stream MonitorContactResponse)", "RPC_SAME_SERVER_STREAMING"),
    ],
)
def test_a_breaking_change_is_refused(tmp_path: Path, pattern: str, replacement: str, rule: str) -> None:
    """`buf breaking`, as `make breaking` calls it, names the broken rule."""
    changed, count = re.subn(pattern, replacement, CONTRACT)
    assert count, f"{pattern!r} is not in the contract any more"
    before, after = module(tmp_path / "before"), module(tmp_path / "after", changed)

    verdict = buf("breaking", "--against", before, "--error-format", "json", folder=after)

    assert verdict.returncode != 0
    assert rule in verdict.stdout


def test_an_addition_is_not_a_breaking_change(tmp_path: Path) -> None:
    """New fields and new reasons are how the contract grows."""
    grown = CONTRACT.replace("ERROR_REASON_INTERNAL = 28;", "ERROR_REASON_INTERNAL = 28;\n  ERROR_REASON_NEW = 29;")
    grown = grown.replace("string client_token = 5;", "string client_token = 5;\n  string note = 6;")
    before, after = module(tmp_path / "before"), module(tmp_path / "after", grown)

    verdict = buf("breaking", "--against", before, folder=after)

    assert verdict.returncode == 0, verdict.stdout + verdict.stderr

"""The committed generated code is that of the contract and of the pinned generator: a quick look.

The proof, `make generate` without a difference, needs the generator's own environment and runs in CI.
"""

import subprocess
import sys
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from monitor_contact.v1 import monitor_contact_pb2

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "proto" / "monitor_contact" / "v1"
CONTRACT = "monitor_contact/v1/monitor_contact.proto"


def descriptor(data: bytes) -> FileDescriptorProto:
    """Return the contract of a descriptor set."""
    files = FileDescriptorSet.FromString(data).file
    return next(file for file in files if file.name == CONTRACT)


def compiled(target: Path) -> FileDescriptorProto:
    """Return the contract as buf compiles it now."""
    buf = Path(sys.executable).parent / "buf"
    subprocess.run([buf, "build", "--as-file-descriptor-set", "-o", target], cwd=ROOT, check=True, timeout=60)
    return descriptor(target.read_bytes())


def test_the_descriptor_set_is_the_contract_with_all_its_comments(tmp_path: Path) -> None:
    """What reflection serves is what the .proto says, word for word."""
    committed, now = descriptor((FOLDER / "monitor_contact.binpb").read_bytes()), compiled(tmp_path / "now.binpb")

    comments = {tuple(place.path): place.leading_comments for place in now.source_code_info.location}
    served = {tuple(place.path): place.leading_comments for place in committed.source_code_info.location}
    for file in (committed, now):
        file.ClearField("source_code_info")

    assert served == comments, "run `make generate`"
    assert committed == now, "run `make generate`"


def test_the_descriptor_set_brings_the_error_details() -> None:
    """Reflection can describe google.rpc.ErrorInfo and its companions."""
    files = FileDescriptorSet.FromString((FOLDER / "monitor_contact.binpb").read_bytes()).file

    assert {file.name for file in files} >= {"google/rpc/error_details.proto", "google/protobuf/duration.proto"}


def test_the_generated_module_is_the_contract(tmp_path: Path) -> None:
    """The Python classes have exactly the fields, values and methods of the .proto."""
    generated, now = FileDescriptorProto(), compiled(tmp_path / "now.binpb")
    monitor_contact_pb2.DESCRIPTOR.CopyToProto(generated)
    for message in now.message_type:
        for field in message.field:
            field.ClearField("json_name")  # not embedded in generated code
    now.ClearField("source_code_info")

    assert generated == now, "run `make generate`"


def test_the_generated_code_is_of_the_pinned_generator() -> None:
    """Newer generators would force newer grpcio and protobuf on every client."""
    messages = (FOLDER / "monitor_contact_pb2.py").read_text("utf-8")
    service = (FOLDER / "monitor_contact_pb2_grpc.py").read_text("utf-8")
    requirements = (ROOT / "proto" / "pyproject.toml").read_text("utf-8")

    assert "# Protobuf Python Version: 6.31.1\n" in messages
    assert "GRPC_GENERATED_VERSION = '1.76.0'" in service
    assert '"grpcio>=1.76.0", "protobuf>=6.31.1,<8"' in requirements


def test_both_kinds_of_stub_files_are_there() -> None:
    """Messages and the asyncio stub are typed."""
    assert "class MonitorContactRequest" in (FOLDER / "monitor_contact_pb2.pyi").read_text("utf-8")
    assert "class MonitorContactServiceAsyncStub" in (FOLDER / "monitor_contact_pb2_grpc.pyi").read_text("utf-8")

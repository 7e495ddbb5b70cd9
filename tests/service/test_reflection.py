"""`reflection`: what grpcurl and its like see, in both versions, over a real server."""

import asyncio
from collections.abc import AsyncIterator, Iterable

import grpc
import pytest
from fakes import FakeClock, FakeTransport
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.reflection_pb2 import (
    ExtensionRequest,
    ServerReflectionRequest,
    ServerReflectionResponse,
)
from harness import Service, serving
from monitor_contact_service.reflection import SERVICES, Reflection
from monitor_contact_service.server import services

_CONTRACT = "monitor_contact/v1/monitor_contact.proto"
_PACKAGE = "monitor_contact.v1"
_NOT_FOUND = grpc.StatusCode.NOT_FOUND.value[0]
_GENEROUS_SECONDS = 20.0  # a test that would hang for ever ends


@pytest.fixture(scope="module")
async def running() -> AsyncIterator[Service]:
    """The service over a fake transport; nothing here changes it."""
    async with serving(FakeTransport(FakeClock())) as service:
        yield service


@pytest.fixture(params=SERVICES, ids=["v1", "v1alpha"])
def version(request: pytest.FixtureRequest) -> str:
    """The full name of one of the two reflection services."""
    name: str = request.param
    return name


def _method(
    service: Service, version: str
) -> "grpc.aio.StreamStreamMultiCallable[ServerReflectionRequest, ServerReflectionResponse]":
    return service.channel.stream_stream(
        f"/{version}/ServerReflectionInfo",
        request_serializer=ServerReflectionRequest.SerializeToString,
        response_deserializer=ServerReflectionResponse.FromString,
    )


async def _ask(
    service: Service, version: str, requests: Iterable[ServerReflectionRequest]
) -> list[ServerReflectionResponse]:
    async with asyncio.timeout(_GENEROUS_SECONDS):
        return [response async for response in _method(service, version)(iter(requests))]


async def _files(service: Service, version: str, request: ServerReflectionRequest) -> dict[str, FileDescriptorProto]:
    """Return the files of the answer by name; each comes once."""
    [response] = await _ask(service, version, [request])
    assert response.WhichOneof("message_response") == "file_descriptor_response", response.error_response
    found = [
        FileDescriptorProto.FromString(serialized)
        for serialized in response.file_descriptor_response.file_descriptor_proto
    ]
    assert len({file.name for file in found}) == len(found)
    return {file.name: file for file in found}


async def test_every_service_is_listed(running: Service, version: str) -> None:
    """The service, health and both versions of reflection, by their full names."""
    [response] = await _ask(running, version, [ServerReflectionRequest(list_services="*")])
    listed = [service.name for service in response.list_services_response.service]
    assert listed == sorted(services())
    assert {"monitor_contact.v1.MonitorContactService", "grpc.health.v1.Health", *SERVICES} == set(listed)


async def test_whatever_is_listed_can_be_described(running: Service, version: str) -> None:
    """`grpcurl describe` without a name asks for each listed service and fails as a whole if one is unknown."""
    for name in services():
        files = await _files(running, version, ServerReflectionRequest(file_containing_symbol=name))
        assert any(f"{file.package}.{service.name}" == name for file in files.values() for service in file.service)


@pytest.mark.parametrize(
    ("symbol", "file"),
    [
        (f"{_PACKAGE}.MonitorContactService", _CONTRACT),
        (f"{_PACKAGE}.MonitorContactService.MonitorContact", _CONTRACT),
        (f"{_PACKAGE}.MonitorContactRequest", _CONTRACT),
        (f"{_PACKAGE}.MonitorContactRequest.user_id", _CONTRACT),
        (f"{_PACKAGE}.MonitorCapability", _CONTRACT),
        (f"{_PACKAGE}.MONITOR_CAPABILITY_BARGE", _CONTRACT),
        (f"{_PACKAGE}.ERROR_REASON_THROTTLED", _CONTRACT),
        ("google.rpc.ErrorInfo", "google/rpc/error_details.proto"),
        ("google.rpc.ErrorInfo.MetadataEntry", "google/rpc/error_details.proto"),
        ("google.rpc.ErrorInfo.MetadataEntry.key", "google/rpc/error_details.proto"),
        ("google.rpc.BadRequest.FieldViolation", "google/rpc/error_details.proto"),
        ("google.rpc.RetryInfo", "google/rpc/error_details.proto"),
        ("google.protobuf.Duration", "google/protobuf/duration.proto"),
        ("grpc.health.v1.Health", "grpc_health/v1/health.proto"),
        ("grpc.health.v1.Health.Watch", "grpc_health/v1/health.proto"),
        ("grpc.health.v1.HealthCheckResponse.ServingStatus", "grpc_health/v1/health.proto"),
        ("grpc.health.v1.HealthCheckResponse.NOT_SERVING", "grpc_health/v1/health.proto"),
    ],
)
async def test_a_symbol_is_found_in_its_file(running: Service, version: str, symbol: str, file: str) -> None:
    """Services, methods, messages, nested messages, fields, enums and values are all found, the file of each first."""
    files = await _files(running, version, ServerReflectionRequest(file_containing_symbol=symbol))
    assert next(iter(files)) == file
    pool = DescriptorPool()
    for found in reversed(files.values()):
        pool.Add(found)
    assert pool.FindFileByName(file).name == file


@pytest.mark.parametrize(
    ("file", "imports"),
    [
        (_CONTRACT, []),
        ("google/rpc/error_details.proto", ["google/protobuf/duration.proto"]),
        ("google/protobuf/duration.proto", []),
    ],
)
async def test_a_file_comes_with_its_imports(running: Service, version: str, file: str, imports: list[str]) -> None:
    """By name, the file first, then each import once."""
    files = await _files(running, version, ServerReflectionRequest(file_by_filename=file))
    assert list(files) == [file, *imports]


async def test_imports_come_once_even_if_two_files_share_them() -> None:
    """A file that is imported on two ways is sent once."""
    reflection = Reflection([])
    shared = FileDescriptorProto(name="shared.proto")
    left = FileDescriptorProto(name="left.proto", dependency=["shared.proto"])
    right = FileDescriptorProto(name="right.proto", dependency=["shared.proto", "left.proto"])
    top = FileDescriptorProto(name="top.proto", dependency=["left.proto", "right.proto"])
    reflection._files.update({file.name: file for file in (shared, left, right, top)})
    answer = reflection.answer(ServerReflectionRequest(file_by_filename="top.proto"))
    sent = [FileDescriptorProto.FromString(raw).name for raw in answer.file_descriptor_response.file_descriptor_proto]
    assert sent == ["top.proto", "left.proto", "shared.proto", "right.proto"]


@pytest.mark.parametrize("file", [_CONTRACT, "google/rpc/error_details.proto"])
async def test_comments_are_there(running: Service, version: str, file: str) -> None:
    """Source locations with the comments of services, messages and fields, for `grpcurl describe`."""
    files = await _files(running, version, ServerReflectionRequest(file_by_filename=file))
    locations = files[file].source_code_info.location
    assert len(locations) > 0
    assert sum(bool(location.leading_comments.strip()) for location in locations) > 10


@pytest.mark.parametrize(
    "request_",
    [
        ServerReflectionRequest(file_by_filename="unknown.proto"),
        ServerReflectionRequest(file_by_filename=""),
        ServerReflectionRequest(file_containing_symbol="unknown.Symbol"),
        ServerReflectionRequest(file_containing_symbol=""),
        ServerReflectionRequest(file_containing_symbol=f"{_PACKAGE}.MonitorContactRequest.unknown"),
        ServerReflectionRequest(all_extension_numbers_of_type="unknown.Message"),
        ServerReflectionRequest(
            file_containing_extension=ExtensionRequest(
                containing_type=f"{_PACKAGE}.MonitorContactRequest", extension_number=100
            )
        ),
        ServerReflectionRequest(),
    ],
    ids=lambda request: str(request).replace("\n", " ").strip(),
)
async def test_what_is_unknown_is_not_found(running: Service, version: str, request_: ServerReflectionRequest) -> None:
    """NOT_FOUND in the answer, the question repeated in it, and the stream goes on."""
    question = ServerReflectionRequest(host="here")
    question.MergeFrom(request_)
    unknown, known = await _ask(running, version, [question, ServerReflectionRequest(list_services="*")])
    assert unknown.error_response.error_code == _NOT_FOUND
    assert unknown.error_response.error_message
    assert unknown.original_request == question
    assert unknown.valid_host == "here"
    assert known.list_services_response.service


async def test_a_message_without_extensions_has_none(running: Service, version: str) -> None:
    """Tools such as grpcurl ask for extension numbers of messages; none is an answer, not an error."""
    name = f"{_PACKAGE}.MonitorContactRequest"
    [response] = await _ask(running, version, [ServerReflectionRequest(all_extension_numbers_of_type=name)])
    assert response.all_extension_numbers_response.base_type_name == name
    assert list(response.all_extension_numbers_response.extension_number) == []


async def test_open_streams_end_so_that_the_server_can_stop() -> None:
    """A grpcui keeps its stream open for hours: it ends with OK, and stop() does not wait for its grace."""
    async with serving(FakeTransport(FakeClock())) as service:
        streams = [_method(service, version)() for version in SERVICES]
        for stream in streams:
            await stream.write(ServerReflectionRequest(list_services="*"))
            assert isinstance(await stream.read(), ServerReflectionResponse)
        service.reflection.end_streams()
        async with asyncio.timeout(_GENEROUS_SECONDS):
            await service.server.stop(3600)
            assert [await stream.code() for stream in streams] == [grpc.StatusCode.OK] * 2


async def test_a_caller_that_leaves_leaves_no_task_behind() -> None:
    """A cancelled stream ends its tasks in the server, so that long-lived servers do not collect them."""
    async with serving(FakeTransport(FakeClock())) as service:
        before = asyncio.all_tasks()
        stream = _method(service, SERVICES[0])()
        await stream.write(ServerReflectionRequest(list_services="*"))
        await stream.read()
        stream.cancel()
        async with asyncio.timeout(_GENEROUS_SECONDS):
            while left := {task for task in asyncio.all_tasks() - before if _is_ours(task)}:
                await asyncio.wait(left)


def _is_ours(task: "asyncio.Task[object]") -> bool:
    """Return False for the task in which gRPC waits for the next call."""
    return not getattr(task.get_coro(), "__qualname__", "").startswith("AioServer.")

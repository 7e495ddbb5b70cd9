"""Server reflection, v1 and v1alpha, with the comments of the contract and the error details of google.rpc.

grpcio-reflection serves v1alpha only, finds no methods and has lost all comments (measured), so this serves the
descriptor set that is generated beside the contract.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from importlib.resources import files
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf import text_format
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection_pb2 import (
    ErrorResponse,
    FileDescriptorResponse,
    ListServiceResponse,
    ServerReflectionRequest,
    ServerReflectionResponse,
    ServiceResponse,
)

# The messages of the two versions are identical on the wire; grpcurl asks for v1 first.
SERVICES: Final = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")


class Reflection:
    """Answers from one descriptor set; `end_streams` ends every open stream."""

    def __init__(self, services: Iterable[str]) -> None:
        descriptors = _descriptor_set()
        self._services = sorted(services)
        self._files = {file.name: file for file in descriptors.file}
        self._file_of = {symbol: file.name for file in descriptors.file for symbol in _symbols(file)}
        self._ended = asyncio.Event()

    def handlers(self) -> "list[grpc.GenericRpcHandler]":
        """Return what to register at the server."""
        method = grpc.stream_stream_rpc_method_handler(
            self._stream,
            request_deserializer=ServerReflectionRequest.FromString,
            response_serializer=ServerReflectionResponse.SerializeToString,
        )
        return [grpc.method_handlers_generic_handler(service, {"ServerReflectionInfo": method}) for service in SERVICES]

    def end_streams(self) -> None:
        """End every stream; call it right before the server's stop, which would wait for them."""
        self._ended.set()

    async def _stream(
        self,
        requests: AsyncIterator[ServerReflectionRequest],
        context: "grpc.aio.ServicerContext[ServerReflectionRequest, ServerReflectionResponse]",
    ) -> AsyncIterator[ServerReflectionResponse]:
        del context
        async for request in _until(self._ended, requests):
            yield self.answer(request)

    def answer(self, request: ServerReflectionRequest) -> ServerReflectionResponse:
        """Return the answer to one question; NOT_FOUND for what is unknown."""
        response = ServerReflectionResponse(valid_host=request.host, original_request=request)
        match request.WhichOneof("message_request"):
            case "list_services":
                services = [ServiceResponse(name=name) for name in self._services]
                response.list_services_response.CopyFrom(ListServiceResponse(service=services))
            case "file_by_filename":
                self._put_file(response, request.file_by_filename)
            case "file_containing_symbol":
                self._put_file(response, self._file_of.get(request.file_containing_symbol, ""))
            case "all_extension_numbers_of_type" if request.all_extension_numbers_of_type in self._file_of:
                response.all_extension_numbers_response.base_type_name = request.all_extension_numbers_of_type
            case _:
                response.error_response.CopyFrom(_not_found())
        return response

    def _put_file(self, response: ServerReflectionResponse, name: str) -> None:
        if name not in self._files:
            response.error_response.CopyFrom(_not_found())
            return
        serialized = [file.SerializeToString() for file in self._with_imports(name, set())]
        response.file_descriptor_response.CopyFrom(FileDescriptorResponse(file_descriptor_proto=serialized))

    def _with_imports(self, name: str, seen: set[str]) -> Iterator[FileDescriptorProto]:
        if name in seen:
            return
        seen.add(name)
        yield self._files[name]
        for imported in self._files[name].dependency:
            yield from self._with_imports(imported, seen)


def _descriptor_set() -> FileDescriptorSet:
    """Return the contract with comments and google.rpc's details, health and reflection without: none are shipped."""
    serialized = (files("monitor_contact.v1") / "monitor_contact.binpb").read_bytes()
    descriptors = FileDescriptorSet.FromString(serialized)
    health_pb2.DESCRIPTOR.CopyToProto(descriptors.file.add())
    reflection_pb2.DESCRIPTOR.CopyToProto(v1alpha := descriptors.file.add())
    # Whatever is listed must resolve, or `grpcurl describe` fails as a whole; v1 differs by its name only.
    text_format.Parse(text_format.MessageToString(v1alpha).replace("v1alpha", "v1"), descriptors.file.add())
    return descriptors


def _symbols(file: FileDescriptorProto) -> Iterator[str]:
    for service in file.service:
        yield (service_name := f"{file.package}.{service.name}")
        yield from (f"{service_name}.{method.name}" for method in service.method)
    for message in file.message_type:
        yield from _message_symbols(file.package, message)
    for enum in file.enum_type:
        yield f"{file.package}.{enum.name}"
        yield from (f"{file.package}.{value.name}" for value in enum.value)


def _message_symbols(scope: str, message: DescriptorProto) -> Iterator[str]:
    yield (name := f"{scope}.{message.name}")
    yield from (f"{name}.{field.name}" for field in message.field)
    for enum in message.enum_type:
        yield f"{name}.{enum.name}"
        yield from (f"{name}.{value.name}" for value in enum.value)
    for nested in message.nested_type:
        yield from _message_symbols(name, nested)


def _not_found() -> ErrorResponse:
    return ErrorResponse(error_code=grpc.StatusCode.NOT_FOUND.value[0], error_message="unknown symbol or file")


async def _until(ended: asyncio.Event, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """Yield the requests until there are no more or `ended` is set."""
    end = asyncio.ensure_future(ended.wait())
    try:
        while True:
            request = asyncio.ensure_future(anext(requests, None))
            await asyncio.wait((request, end), return_when=asyncio.FIRST_COMPLETED)
            if not request.done():
                request.cancel()
                return
            if (asked := request.result()) is None:
                return
            yield asked
    finally:
        end.cancel()

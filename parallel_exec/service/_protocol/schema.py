"""The protocol's message classes, created at import from the compiled `service.proto`.

protobuf has no static types for classes created this way; `values.py` converts messages to typed values.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

from google.protobuf import (
    any_pb2,  # noqa: F401 - registers the file that service.proto imports
    descriptor_pool,
    message_factory,
)
from google.protobuf.descriptor_pb2 import FileDescriptorSet

PACKAGE = "parallel_exec.v1"
SERVICE = f"{PACKAGE}.Pexec"


def _load() -> dict[str, Any]:
    pool = descriptor_pool.Default()
    content = resources.files(__package__).joinpath("service.binpb").read_bytes()
    found = {}
    for file in FileDescriptorSet.FromString(content).file:
        pool.AddSerializedFile(file.SerializeToString())
        for message in file.message_type:
            descriptor = pool.FindMessageTypeByName(f"{PACKAGE}.{message.name}")
            found[message.name] = message_factory.GetMessageClass(descriptor)
    return found


_classes = _load()

DeployRequest = _classes["DeployRequest"]
Deployment = _classes["Deployment"]
Document = _classes["Document"]
ExecuteRequest = _classes["ExecuteRequest"]
ExecuteResponse = _classes["ExecuteResponse"]
Failure = _classes["Failure"]
Limits = _classes["Limits"]
ListRequest = _classes["ListRequest"]
ListResponse = _classes["ListResponse"]
Plugin = _classes["Plugin"]
StatsRequest = _classes["StatsRequest"]
StatsResponse = _classes["StatsResponse"]
Status = _classes["Status"]
StreamRequest = _classes["StreamRequest"]
StreamResponse = _classes["StreamResponse"]
SwapRequest = _classes["SwapRequest"]
UndeployRequest = _classes["UndeployRequest"]

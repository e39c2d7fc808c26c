"""Compile the service's protocol: parallel_exec/service/_protocol/service.proto into service.binpb beside it.

Not into Python: generated code needs a protobuf at least as new as its generator, and later major versions reject it,
while all of them read a serialised FileDescriptorSet. `--check` only checks that service.binpb is up to date. Needs
grpcio-tools (the extra `test`).
"""

from __future__ import annotations

import sys
import tempfile
from importlib import resources
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# With folders: protobuf demands that a file's name is unique in a process.
SOURCE = "parallel_exec/service/_protocol/service.proto"
TARGET = ROOT / "parallel_exec" / "service" / "_protocol" / "service.binpb"


def compile_protocol() -> bytes:
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        shipped = resources.files("grpc_tools") / "_proto"
        if protoc.main(["protoc", f"-I{ROOT}", f"-I{shipped}", f"--descriptor_set_out={out}", SOURCE]):
            sys.exit("make_protocol: service.proto does not compile; the reason is above")
        return out.read_bytes()


def is_up_to_date() -> bool:
    from google.protobuf.descriptor_pb2 import FileDescriptorSet

    # Not the bytes: compilers order fields differently.
    compiled = FileDescriptorSet.FromString(compile_protocol())
    return TARGET.exists() and FileDescriptorSet.FromString(TARGET.read_bytes()) == compiled


def main() -> None:
    if sys.argv[1:] != ["--check"]:
        TARGET.write_bytes(compile_protocol())
    elif not is_up_to_date():
        sys.exit("make_protocol: service.binpb is not what service.proto says; run scripts/make_protocol.py")


if __name__ == "__main__":
    main()

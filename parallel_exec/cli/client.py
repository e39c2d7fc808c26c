"""`pexec client`: what a server of `pexec serve` can be asked to do, from the command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from parallel_exec.cli.failures import FAILURE, Failure, one_line, say, usage
from parallel_exec.cli.inputs import read_documents
from parallel_exec.cli.options import (
    Commands,
    FilesArgument,
    InputOption,
    LinesOption,
    MemoryOption,
    PluginArgument,
    TimeOption,
    check_least,
    load_plugin,
    make_limits,
    read_secret,
    read_token,
    takes,
)
from parallel_exec.limits import Limits

if TYPE_CHECKING:
    from parallel_exec.service import Client, Deployed

client = Commands(help="Send requests to a server started by `pexec serve`.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The name of the deployment.", show_default=False)]
FunctionArgument = Annotated[
    str, typer.Argument(metavar="FUNCTION", help="The name of the function.", show_default=False)
]
SharedOption = Annotated[
    bool, typer.Option("--shm", help="Send documents through shared memory, to a server on this machine.")
]


@dataclass(frozen=True, slots=True)
class ServerAccess:
    """The options that say which server to ask, and what it wants to know."""

    server: Annotated[
        str,
        typer.Option(
            "--server", metavar="ADDRESS", envvar="PEXEC_SERVER", help="host:port or unix:path.", show_default=False
        ),
    ] = ""
    token_file: Annotated[
        str | None, typer.Option("--token-file", metavar="FILE", help="File with the token that the server requires.")
    ] = None
    tls_ca: Annotated[
        str | None,
        typer.Option("--tls-ca", metavar="FILE", help="CA certificates to verify the server by (PEM); turns TLS on."),
    ] = None

    def connect(self) -> Client:
        """Return a client of the server.

        Raises:
            Failure: an option is missing or wrong.
        """
        if not self.server:
            raise usage("--server, or the variable PEXEC_SERVER, is needed: the address that `pexec serve` printed")
        token, certificates = read_token(self.token_file), read_secret(self.tls_ca, "--tls-ca")

        from parallel_exec.service import Client

        try:
            return Client(self.server, token=token, certificates=certificates)
        except ValueError as error:
            raise usage(str(error)) from None


@client.command("deploy")
@takes(ServerAccess)
def deploy(access: ServerAccess, *, name: NameArgument, plugin: PluginArgument) -> None:
    """Deploy a plugin under a free name; if the name has this very plugin already, nothing changes."""
    loaded = load_plugin(plugin)
    with access.connect() as server:
        _show(server.deploy(name, loaded))


@client.command("swap")
@takes(ServerAccess)
def swap(
    access: ServerAccess,
    *,
    name: NameArgument,
    plugin: PluginArgument,
    expect: Annotated[
        int | None, typer.Option("--expect", metavar="VERSION", help="Swap only if this version is deployed.")
    ] = None,
) -> None:
    """Replace a deployment's plugin; calls made before still run the old version."""
    loaded = load_plugin(plugin)
    with access.connect() as server:
        _show(server.swap(name, loaded, expected_version=expect))


@client.command("undeploy")
@takes(ServerAccess)
def undeploy(access: ServerAccess, *, name: NameArgument) -> None:
    """Remove a deployment."""
    with access.connect() as server:
        _show(server.undeploy(name))


@client.command("list")
@takes(ServerAccess)
def list_(access: ServerAccess) -> None:
    """List deployments: name, version, plugin, functions."""
    with access.connect() as server:
        _show(*server.list())


@client.command("stats")
@takes(ServerAccess)
def stats(access: ServerAccess) -> None:
    """Print statistics of the server's pool as JSON."""
    with access.connect() as server:
        typer.echo(json.dumps(asdict(server.stats()), indent=2))


@client.command("execute")
@takes(ServerAccess)
def execute(
    access: ServerAccess,
    *,
    name: NameArgument,
    function: FunctionArgument,
    document: Annotated[
        str, typer.Argument(metavar="DOCUMENT", help="The file to read; '-' reads stdin.", show_default=False)
    ] = "-",
    input: InputOption = "json",
    shm: SharedOption = False,
    time_limit: TimeOption = None,
    memory_limit: MemoryOption = None,
) -> None:
    """Run a function on one document and print the result."""
    limits = _limits(memory_limit, time_limit)
    text = next(_documents([document], lines=False))
    with access.connect() as server:
        result = server.execute(name, function, text, input=input, limits=limits, shared=shm, output="bytes")
    sys.stdout.buffer.write(result + b"\n")


@client.command("stream")
@takes(ServerAccess)
def stream(
    access: ServerAccess,
    *,
    name: NameArgument,
    function: FunctionArgument,
    files: FilesArgument = None,
    lines: LinesOption = False,
    unordered: Annotated[
        bool, typer.Option("--unordered", help="Print results as they arrive, each after its document's number.")
    ] = False,
    window: Annotated[int, typer.Option("--window", metavar="N", help="Maximum number of documents in flight.")] = 256,
    input: InputOption = "json",
    shm: SharedOption = False,
    time_limit: TimeOption = None,
    memory_limit: MemoryOption = None,
) -> None:
    """Run a function on every document and print the results, one line each.

    A document that fails is reported on stderr with its number; the others still run, and the exit status is 1.
    """
    check_least(window, "--window")
    limits = _limits(memory_limit, time_limit)
    failed = done = 0
    with access.connect() as server:
        results = server.stream(
            name,
            function,
            _documents(files or ["-"], lines=lines),
            ordered=not unordered,
            errors="return",
            input=input,
            output="bytes",
            limits=limits,
            window=window,
            shared=shm,
        )
        for result in results:
            if isinstance(result.value, Exception):
                failed += 1
                say(str(result.value))
                continue
            done += 1
            number = b"%d\t" % result.document if unordered else b""
            sys.stdout.buffer.write(number + result.value + b"\n")
            sys.stdout.buffer.flush()
    if failed:
        if failed > 1:
            say(f"{failed} of {failed + done} documents failed")
        raise typer.Exit(FAILURE)


def _limits(memory: str | None, time_s: float | None) -> Limits | None:
    return None if memory is None and time_s is None else make_limits(memory, time_s)


def _documents(files: list[str], *, lines: bool) -> Iterator[bytes]:
    for document in read_documents(files, lines=lines, in_thread=True):
        if document.text is None:
            raise Failure(f"document {document.index} ({document.origin}): {document.problem}")
        yield document.text


def _show(*deployed: Deployed) -> None:
    for each in deployed:
        # Others may have deployed it: no control characters may reach the terminal.
        name, plugin, functions = map(one_line, (each.name, each.plugin, ", ".join(each.functions)))
        typer.echo(f"{name}\tversion {each.version}\t{plugin}\t{functions}")

"""`pexec client`: what a server of `pexec serve` can be asked, from the command line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from parallel_exec.cli.failures import FAILURE, Failure, one_line, say, usage
from parallel_exec.cli.options import (
    DebugOption,
    InputOption,
    MemoryOption,
    TimeOption,
    load_plugin,
    make_limits,
    read_secret,
)

if TYPE_CHECKING:
    from parallel_exec.limits import Limits
    from parallel_exec.service import Client, Deployed

client = typer.Typer(help="Ask a server of `pexec serve`.", no_args_is_help=False, rich_markup_mode=None)

ServerOption = Annotated[
    str,
    typer.Option(
        "--server", metavar="ADDRESS", envvar="PEXEC_SERVER", help="host:port or unix:path.", show_default=False
    ),
]
TokenOption = Annotated[
    str | None, typer.Option("--token-file", metavar="FILE", help="A file with the token that the server wants.")
]
CertificateOption = Annotated[
    str | None,
    typer.Option("--tls-ca", metavar="FILE", help="Certificates that sign the server's, PEM; turns TLS on."),
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The deployment's name.", show_default=False)]
PluginArgument = Annotated[
    str, typer.Argument(metavar="PLUGIN", help="The file: JavaScript or a WebAssembly module.", show_default=False)
]
FunctionArgument = Annotated[str, typer.Argument(metavar="FUNCTION", help="The function's name.", show_default=False)]
SharedOption = Annotated[
    bool, typer.Option("--shm", help="Send documents through shared memory, to a server on this machine.")
]


@client.command("deploy")
def deploy(
    name: NameArgument,
    plugin: PluginArgument,
    server: ServerOption = "",
    token_file: TokenOption = None,
    tls_ca: CertificateOption = None,
    debug: DebugOption = False,
) -> None:
    """Deploy a plugin under a free name; if the name has this very plugin already, nothing changes."""
    loaded = load_plugin(plugin)
    with _connect(server, token_file, tls_ca) as connection:
        _show([connection.deploy(name, loaded)])


@client.command("swap")
def swap(
    name: NameArgument,
    plugin: PluginArgument,
    expect: Annotated[
        int | None, typer.Option("--expect", metavar="VERSION", help="Only if this version is deployed.")
    ] = None,
    server: ServerOption = "",
    token_file: TokenOption = None,
    tls_ca: CertificateOption = None,
    debug: DebugOption = False,
) -> None:
    """Replace a deployment's plugin; calls that came before still run the old version."""
    loaded = load_plugin(plugin)
    with _connect(server, token_file, tls_ca) as connection:
        _show([connection.swap(name, loaded, expected_version=expect)])


@client.command("undeploy")
def undeploy(
    name: NameArgument,
    server: ServerOption = "",
    token_file: TokenOption = None,
    tls_ca: CertificateOption = None,
    debug: DebugOption = False,
) -> None:
    """Take a deployment away."""
    with _connect(server, token_file, tls_ca) as connection:
        _show([connection.undeploy(name)])


@client.command("list")
def list_(
    server: ServerOption = "",
    token_file: TokenOption = None,
    tls_ca: CertificateOption = None,
    debug: DebugOption = False,
) -> None:
    """List what is deployed: name, version, plugin, functions."""
    with _connect(server, token_file, tls_ca) as connection:
        _show(connection.list())


@client.command("stats")
def stats(
    server: ServerOption = "",
    token_file: TokenOption = None,
    tls_ca: CertificateOption = None,
    debug: DebugOption = False,
) -> None:
    """Print what the server's pool has done, as JSON."""
    import json

    with _connect(server, token_file, tls_ca) as connection:
        typer.echo(json.dumps(asdict(connection.stats()), indent=2))


@client.command("execute")
def execute(
    name: NameArgument,
    function: FunctionArgument,
    document: Annotated[
        str, typer.Argument(metavar="DOCUMENT", help="The document; - is stdin.", show_default=False)
    ] = "-",
    input: InputOption = "json",
    shm: SharedOption = False,
    time_limit: TimeOption = None,
    memory_limit: MemoryOption = None,
    server: ServerOption = "",
    token_file: TokenOption = None,
    tls_ca: CertificateOption = None,
    debug: DebugOption = False,
) -> None:
    """Run a function on one document and print its result."""
    limits = _limits(memory_limit, time_limit)
    text = next(_documents([document], lines=False))
    with _connect(server, token_file, tls_ca) as connection:
        result = connection.execute(name, function, text, input=input, limits=limits, shared=shm, output="bytes")
    sys.stdout.buffer.write(result + b"\n")


@client.command("stream")
def stream(
    name: NameArgument,
    function: FunctionArgument,
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILES", help="The documents; - is stdin, and so is none.", show_default=False),
    ] = None,
    lines: Annotated[
        bool, typer.Option("--lines", help="Each line of a file that is not blank is a document, not each file.")
    ] = False,
    unordered: Annotated[
        bool, typer.Option("--unordered", help="Print results as they come, each after its document's number.")
    ] = False,
    window: Annotated[int, typer.Option("--window", metavar="N", help="Most documents on their way at a time.")] = 256,
    input: InputOption = "json",
    shm: SharedOption = False,
    time_limit: TimeOption = None,
    memory_limit: MemoryOption = None,
    server: ServerOption = "",
    token_file: TokenOption = None,
    tls_ca: CertificateOption = None,
    debug: DebugOption = False,
) -> None:
    """Run a function on every document and print the results, a line each.

    A document that fails is told on stderr, with its number, and does not stop the rest; the exit status is 1 then.
    """
    if window < 1:
        raise usage(f"--window must be at least 1; got {window}")
    limits = _limits(memory_limit, time_limit)
    failed = done = 0
    with _connect(server, token_file, tls_ca) as connection:
        results = connection.stream(
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


def _connect(server: str, token_file: str | None, tls_ca: str | None) -> Client:
    if not server:
        raise usage("--server, or the variable PEXEC_SERVER, is needed: the address that `pexec serve` printed")
    token = None if token_file is None else read_secret(token_file, "--token-file").decode(errors="replace").strip()
    certificates = None if tls_ca is None else read_secret(tls_ca, "--tls-ca")

    from parallel_exec.service import Client

    try:
        return Client(server, token=token, certificates=certificates)
    except ValueError as error:
        raise usage(str(error)) from None


def _limits(memory: str | None, time_s: float | None) -> Limits | None:
    return None if memory is None and time_s is None else make_limits(memory, time_s)


def _documents(files: list[str], *, lines: bool) -> Iterator[bytes]:
    from parallel_exec.cli.inputs import read_documents

    for document in read_documents(files, lines=lines, in_thread=True):
        if document.text is None:
            raise Failure(f"document {document.index} ({document.origin}): {document.problem}")
        yield document.text


def _show(deployed: list[Deployed]) -> None:
    for each in deployed:
        # Others may have deployed it: nothing that a terminal would obey.
        name, plugin, functions = map(one_line, (each.name, each.plugin, ", ".join(each.functions)))
        typer.echo(f"{name}\tversion {each.version}\t{plugin}\t{functions}")

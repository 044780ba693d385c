"""The command line: one thin file per command, imported only when that command runs."""

from __future__ import annotations

import errno
import signal
import sys
import threading
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from types import FrameType
from typing import Any

import click

from es_latechunk.errors import LateChunkError
from es_latechunk.hidden_imports import hidden_imports

DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)

COMMANDS = {
    "quickstart": "Start a local node, index sample articles and search them.",
    "node": "Start, stop and inspect the embedded Elasticsearch.",
    "index": "Create, list, show, promote and delete indices.",
    "chunk": "Split documents into chunks and print them as NDJSON (needs no server).",
    "embed": "Print the chunk vectors of documents as NDJSON (needs no server).",
    "ingest": "Write documents into an index.",
    "search": "Find the chunks that answer a query.",
    "compare": "Compare late with naive pooling for a query, chunk by chunk (needs no server).",
    "verify": "Compare kNN with exact cosines, and check every stored vector.",
    "evaluate": "Measure poolings, chunk sizes and search modes on your own questions.",
    "models": "List the known models, or describe one.",
    "serve": "Serve a local model over HTTP: embeddings and late chunking.",
    "inference": "Create, show and delete Elasticsearch's inference endpoints.",
}


class TerminatedError(KeyboardInterrupt):
    """The process got SIGTERM, or SIGHUP because its terminal closed: handled like Ctrl-C, with another exit code."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def _terminate(number: int, frame: FrameType | None) -> None:
    raise TerminatedError(number)


class LazyGroup(click.Group):
    """A group that knows every command's name and one-line help, and imports a command only to run it.

    So `--help` is fast: it imports no model library and no client.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"{__name__}.{cmd_name}"), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and (near := get_close_matches(args[0], COMMANDS)):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run as `click.Group.main` does, and say on one line that a disk is full: `--help` may have met that."""
        try:
            return super().main(*args, **extra)
        except OSError as error:
            if error.errno not in DISK_IS_FULL:
                raise
            from es_latechunk.cli.output.messages import note

            place = repr(str(error.filename)) if error.filename else "standard output or a file"
            note(
                f"{place} cannot be written ({error.strerror}); free space, and run the command again",
                "error",
            )
            sys.exit(1)

    def invoke(self, ctx: click.Context) -> Any:
        before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            before[signal.SIGTERM] = signal.signal(signal.SIGTERM, _terminate)
            if (
                signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
            ):  # nohup has made the process ignore it otherwise
                before[signal.SIGHUP] = signal.signal(signal.SIGHUP, _terminate)
        try:
            # OpenVINO's converter of other libraries' models, a third of its import's time: no command converts one.
            # Only here, as a Python user's own program may.
            with hidden_imports("openvino", "openvino.tools.ovc"):
                return super().invoke(ctx)
        except LateChunkError as error:
            from es_latechunk.cli.output.messages import complain

            complain(error)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt as interrupt:
            with suppress(OSError):  # it fails if the terminal is closed
                click.echo("interrupted", err=True)
            number = interrupt.number if isinstance(interrupt, TerminatedError) else signal.SIGINT
            ctx.exit(128 + number)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120}
)
@click.version_option(package_name="es-latechunk")
def main() -> None:
    """Late chunking for Elasticsearch: chunk vectors with the context of their whole document.

    Results go to stdout, progress and errors to stderr. The exit code is 0 on success, 1 if something failed (it
    is named on stderr), and 2 for wrong usage or a missing precondition, such as an index that does not exist.

    To begin with, run `es-latechunk quickstart`. `es-latechunk COMMAND --help` explains the options of a
    command, with examples.
    """

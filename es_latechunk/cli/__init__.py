"""The command line: one thin file a command, loaded when it is called."""

from __future__ import annotations

import signal
import threading
from contextlib import suppress
from importlib import import_module
from types import FrameType
from typing import Any

import click

from es_latechunk.errors import LateChunkError

COMMANDS = {
    "quickstart": "Start a local node, index a sample and search it: a tour on one screen.",
    "node": "Start, stop and inspect the embedded Elasticsearch.",
    "index": "Create, show, promote and delete indices.",
    "chunk": "Split documents into chunks and print them as NDJSON (no server).",
    "embed": "Print the chunk vectors of documents as NDJSON (no server).",
    "ingest": "Write documents into an index.",
    "search": "Find the chunks that answer a query.",
    "compare": "Compare late with naive similarity, chunk by chunk (no server).",
    "models": "List the models that late chunking works with, or describe one.",
    "serve": "Serve the local model over HTTP: embeddings and late chunking.",
    "inference": "Manage Elasticsearch's inference endpoints for this model.",
}


class TerminatedError(KeyboardInterrupt):
    """SIGTERM, or SIGHUP of a terminal that is gone: the same as Ctrl-C, with another exit code."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def _terminate(number: int, frame: FrameType | None) -> None:
    raise TerminatedError(number)


class LazyGroup(click.Group):
    """Knows every command's name and one-line help, and imports a command only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"{__name__}.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            before[signal.SIGTERM] = signal.signal(signal.SIGTERM, _terminate)
            if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # not where nohup has it ignored
                before[signal.SIGHUP] = signal.signal(signal.SIGHUP, _terminate)
        try:
            return super().invoke(ctx)
        except LateChunkError as error:
            from es_latechunk.cli.output import complain

            complain(error)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt as interrupt:
            with suppress(OSError):  # the terminal may be what is gone
                click.echo("interrupted", err=True)
            number = interrupt.number if isinstance(interrupt, TerminatedError) else signal.SIGINT
            ctx.exit(128 + number)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="es-latechunk")
def main() -> None:
    """Late chunking for Elasticsearch: chunk vectors that know their document.

    Results go to stdout, progress and errors to stderr. Exit code 0: done; 1: something failed, and it is
    named; 2: wrong usage, or something that must stand beforehand does not.
    """

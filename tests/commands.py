"""Running commands: in this process, where torch is loaded already, or as a user's shell does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from es_latechunk.cli import main


def run(*arguments: str | Path, **options: Any) -> Result:
    """A command in this process; an exception that is not ours escapes, as it would to the user."""
    return CliRunner().invoke(main, [str(word) for word in arguments], catch_exceptions=False, **options)


def run_process(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    command = [sys.executable, "-m", "es_latechunk", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, **options)


def error_of(result: Result | subprocess.CompletedProcess[str], exit_code: int) -> str:
    """The one line that a refused command prints, which is all that it prints."""
    code = result.exit_code if isinstance(result, Result) else result.returncode
    assert (code, result.stdout) == (exit_code, ""), result.stderr
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert line.isprintable()
    return line.removeprefix("error: ")

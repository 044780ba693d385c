"""Running commands: in this process, where torch is loaded already, or as a user's shell does."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from es_latechunk.cli import main


def run(*arguments: str | Path, input: str = "", **options: Any) -> Result:
    """A command in this process; an exception that is not ours escapes, as it would to the user."""
    given = io.BufferedReader(io.BytesIO(input.encode()))  # as a real standard input is
    command = [str(word) for word in arguments]
    return CliRunner().invoke(main, command, input=given, catch_exceptions=False, **options)


def read_terminal(master: int) -> bytes:
    """All that is written to a terminal, given its other end, until nobody has it open any more."""
    shown = b""
    while True:
        try:
            part = os.read(master, 65_536)
        except OSError:  # Linux: the terminal's last user is gone
            break
        if not part:
            break
        shown += part
    os.close(master)
    return shown


def run_line(line: str) -> str:
    """A line of a page in this process, with `printf ... |` or `echo ... |` before it or `> file` after it.

    It has to succeed; gives what it prints.
    """
    words = shlex.split(line)
    given = ""
    if "|" in words:
        given = words[1].replace("\\n", "\n")
        words = words[words.index("|") + 1 :]
    file = None
    if ">" in words:
        file = Path(words[-1])
        words = words[: words.index(">")]
    assert words[0] == "es-latechunk"
    result = run(*words[1:], input=given)
    assert result.exit_code == 0, f"{line}\n{result.stderr}"
    assert "error" not in result.stderr
    if file:
        file.write_text(result.stdout, encoding="utf-8")
    return result.stdout


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

"""The account that the server runs as: the caller's own, or an unprivileged one when the caller is root.

Elasticsearch refuses to run as root. A number of its own, rather than `nobody`, keeps its files from
other services of the machine; it needs no entry in the password file.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from es_latechunk.errors import NodeError

SERVER_UID = 59200
_SECONDS_TO_ANSWER = 60
# A list of what may pass, because everything else may hold credentials, and the server needs none.
_PASSED_ON = ("PATH", "TZ", "LD_LIBRARY_PATH", "ES_JAVA_OPTS")
# Java reads file names, and writes its errors, by the locale: any name, and English.
_LOCALE = {"LC_ALL": "C.UTF-8"}


@dataclass(frozen=True, slots=True)
class Account:
    """`uid` is None for the caller's own account."""

    uid: int | None

    def own(self, path: Path) -> None:
        """Give one file or folder to the account."""
        if self.uid is not None:
            os.chown(path, self.uid, self.uid, follow_symlinks=False)

    def run(
        self,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str] | None = None,
        standard_input: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Run a short command as the account, from `/`. OSError if it cannot be run at all."""
        return subprocess.run(  # noqa: S603 - the program comes from the Java or Elasticsearch chosen
            [str(part) for part in command],
            **self._identity(),
            env={**inherited_environment(), **(environment or {})},
            cwd="/",
            input=standard_input,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS_TO_ANSWER,
            check=False,
        )

    def launch(
        self, command: Sequence[str | Path], *, environment: Mapping[str, str], folder: Path, log: Path
    ) -> subprocess.Popen[bytes]:
        """Start a command as the account in a session of its own, its output going to `log`."""
        with log.open("wb") as output:
            log.chmod(0o600)
            return subprocess.Popen(  # noqa: S603 - as above
                [str(part) for part in command],
                **self._identity(),
                env={**inherited_environment(), **environment},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def reaches(self, folder: Path) -> bool:
        """Whether the account can enter `folder`, found by trying. NodeError if root may not become it."""
        try:
            return self.run(["/bin/sh", "-c", 'cd "$0"', folder]).returncode == 0
        except OSError as error:
            raise NodeError(
                f"root here may not run programs as user {self.uid} ({error.strerror}), and Elasticsearch "
                "refuses to run as root: start the node from an ordinary account"
            ) from error

    def _identity(self) -> dict[str, Any]:
        if self.uid is None:
            return {}
        return {"user": self.uid, "group": self.uid, "extra_groups": []}


def server_account() -> Account:
    """The account for the server that this process would start."""
    return Account(SERVER_UID if os.geteuid() == 0 else None)


def inherited_environment() -> dict[str, str]:
    """What the server gets of the caller's environment."""
    return _LOCALE | {name: os.environ[name] for name in _PASSED_ON if name in os.environ}

"""What the project logs, apart from what other libraries log in the same process."""

from __future__ import annotations

import logging

import pytest


def warnings_told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the messages of the project's own warnings and errors, in order.

    A framework's telemetry, or a client's retry, may log at any moment from a thread of its own.
    """
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING and record.name.partition(".")[0] == "es_latechunk"
    ]

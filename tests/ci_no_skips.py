"""A pytest plugin for CI: a run in which a test was skipped has failed.

Only what reads `../shared` may be skipped, and only where there is no such folder: its reason has to
say "needs ../shared". `make test` loads this where CI=true.
"""

from __future__ import annotations

import pytest

ALLOWED_REASON = "needs ../shared"


class NoSkips:
    """Collects the skips that are not allowed, tells them at the end and fails the run."""

    def __init__(self, *, shared_is_there: bool) -> None:
        self.shared_is_there = shared_is_there
        self.forbidden: list[tuple[str, str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not hasattr(report, "wasxfail"):
            self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if not report.skipped:
            return
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if self.shared_is_there or ALLOWED_REASON not in reason:
            self.forbidden.append((report.nodeid, reason))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.forbidden and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.forbidden:
            return
        terminalreporter.section("in CI every test has to run")
        for nodeid, reason in self.forbidden:
            terminalreporter.write_line(f"{nodeid}: {reason}")


def pytest_configure(config: pytest.Config) -> None:
    shared_is_there = (config.rootpath.parent / "shared").is_dir()
    config.pluginmanager.register(NoSkips(shared_is_there=shared_is_there))

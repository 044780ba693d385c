"""A pytest plugin for CI: a run in which a test was skipped has failed.

Only what reads `../shared` may be skipped, and only where there is no such folder: its reason has to
say "needs ../shared". `make test` loads this where CI=true, in each process of a run by several (pytest-xdist).
"""

from __future__ import annotations

from typing import Any

import pytest

ALLOWED_REASON = "needs ../shared"


class NoSkips:
    """Collects the skips that are not allowed, tells them at the end and fails the run."""

    def __init__(self, *, shared_is_there: bool) -> None:
        self.shared_is_there = shared_is_there
        self.forbidden: dict[str, str] = {}

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
            self.forbidden[report.nodeid] = reason

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """What a process has found while it collected: that is not reported in any other way."""
        self.forbidden.update(getattr(node, "workeroutput", {}).get("forbidden_skips", {}))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["forbidden_skips"] = self.forbidden
        if self.forbidden and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.forbidden:
            return
        terminalreporter.section("in CI every test has to run")
        for nodeid, reason in self.forbidden.items():
            terminalreporter.write_line(f"{nodeid}: {reason}")


def pytest_configure(config: pytest.Config) -> None:
    shared_is_there = (config.rootpath.parent / "shared").is_dir()
    config.pluginmanager.register(NoSkips(shared_is_there=shared_is_there))

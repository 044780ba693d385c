"""In CI a skipped test fails the run, but for what reads ../shared where there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


def run(folder: Path, source: str, *options: str) -> subprocess.CompletedProcess[str]:
    repository = folder / "repository"
    repository.mkdir()
    (repository / "pytest.ini").write_text("[pytest]\n")
    (repository / "test_sample.py").write_text(f"import pytest\n{source}\n")
    (repository / "test_other.py").write_text("def test_other(): pass\n")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "ci_no_skips", *options],
        cwd=repository,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
    )


SKIPS = {
    "in a test": 'def test_it(): pytest.skip("no reason at all")',
    "by a mark": '@pytest.mark.skipif(True, reason="no reason at all")\ndef test_it(): pass',
    "of a module": 'pytest.skip("no reason at all", allow_module_level=True)',
    "by a missing module": 'pytest.importorskip("no_reason_at_all")',
}


@pytest.mark.parametrize(
    ("kind", "options"),
    [*((kind, ()) for kind in SKIPS), ("in a test", ("-n", "2")), ("of a module", ("-n", "2"))],
)
def test_a_skip_fails_the_run_and_is_named(tmp_path: Path, kind: str, options: tuple[str, ...]) -> None:
    done = run(tmp_path, SKIPS[kind], *options)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "in CI every test has to run" in done.stdout
    assert "test_sample.py" in done.stdout.partition("in CI every test has to run")[2]


SHARED = '@pytest.mark.skipif(True, reason="needs ../shared")\ndef test_it(): pass'


def test_what_reads_shared_may_be_skipped_where_there_is_none(tmp_path: Path) -> None:
    assert run(tmp_path, SHARED).returncode == pytest.ExitCode.OK


def test_what_reads_shared_may_not_be_skipped_beside_it(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    assert run(tmp_path, SHARED).returncode == pytest.ExitCode.TESTS_FAILED


def test_a_run_without_skips_passes_and_an_expected_failure_is_no_skip(tmp_path: Path) -> None:
    done = run(tmp_path, "@pytest.mark.xfail\ndef test_it(): assert False")
    assert done.returncode == pytest.ExitCode.OK, done.stdout


def test_an_exit_code_of_pytest_itself_is_kept(tmp_path: Path) -> None:
    done = run(tmp_path, 'def test_it(): pytest.skip("no reason at all")\nraise KeyboardInterrupt')
    assert done.returncode == pytest.ExitCode.INTERRUPTED

"""Calls in other threads: results, errors, and signals while they are waited for."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from es_latechunk.threads import Call, Interrupt, Interrupted, Workers, check_interrupt, pause, result_of

INTERRUPTED = """
import os, signal, threading, time
from es_latechunk.threads import Call, Interrupt, Interrupted, Workers, check_interrupt, pause, result_of

begun = threading.Event()

def interrupt():
    begun.wait()
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(600)

threading.Thread(target=interrupt, daemon=True).start()  # takes the signal, as this thread blocks it from now on
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})

def step():
    begun.set()
    time.sleep(600)

try:
    %s
    call.result()
except KeyboardInterrupt:
    print("interrupted")
"""
STARTS = ["call = Call(step); call.start()", "call = Workers(2).submit(step)"]


@pytest.mark.parametrize("start", STARTS)
def test_a_signal_that_another_thread_takes_ends_the_wait_and_the_program(start: str) -> None:
    command = [sys.executable, "-c", INTERRUPTED % start]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "interrupted\n", "")


def test_what_a_call_raises_is_raised_where_it_is_waited_for() -> None:
    def fail() -> None:
        raise TimeoutError("of its own")

    call = Call(fail)
    call.start()
    with pytest.raises(TimeoutError, match="of its own"):
        call.result()


def test_a_call_that_has_not_ended_says_so() -> None:
    go_on = threading.Event()
    call = Call(lambda: go_on.wait(60))
    call.start()
    assert not call.has_ended(within=0)
    go_on.set()
    assert call.result()
    assert call.has_ended(within=0)


def test_workers_run_calls_in_order_and_drop_those_that_have_not_begun() -> None:
    workers: Workers[int] = Workers(1)
    go_on, ran = threading.Event(), list[int]()

    def step(number: int) -> int:
        ran.append(number)
        go_on.wait(60)
        return number

    calls = [workers.submit(lambda number=number: step(number)) for number in range(2)]  # type: ignore[misc]
    go_on.set()
    assert [call.result() for call in calls] == ran == [0, 1]

    go_on.clear()
    begun = workers.submit(lambda: step(2))
    while ran[-1] != 2:
        pass
    dropped = workers.submit(lambda: step(3))
    workers.end()
    go_on.set()
    assert begun.result() == 2
    assert not dropped.has_ended(within=0.1)
    assert ran == [0, 1, 2]


def test_a_call_that_is_cancelled_before_it_has_begun_is_not_run() -> None:
    workers: Workers[None] = Workers(1)
    go_on, ran = threading.Event(), list[str]()
    first = workers.submit(lambda: ran.append(str(go_on.wait(60))))
    cancelled = workers.submit(lambda: ran.append("cancelled"))
    last = workers.submit(lambda: ran.append("last"))
    assert cancelled.future.cancel()
    go_on.set()
    last.result()
    assert first.has_ended(within=0)
    assert ran == ["True", "last"]


@pytest.mark.parametrize("wait", [lambda: pause(60), lambda: result_of(Future()), check_interrupt])
def test_an_interrupt_is_raised_once_in_the_thread_that_runs_under_it(wait: Callable[[], None]) -> None:
    """And in no other one; what cleans up after it can wait."""
    interrupt, cleaned_up = Interrupt(), list[str]()

    def work() -> None:
        try:
            while True:
                wait()
        finally:
            pause(0.001)
            cleaned_up.append("yes")

    call = Call(lambda: interrupt.run(work))
    call.start()
    check_interrupt()
    interrupt.ask()
    with pytest.raises(Interrupted):
        call.result()
    assert cleaned_up == ["yes"]
    interrupt.ask()
    check_interrupt()

# SPDX-License-Identifier: Apache-2.0
"""Waiting for a condition with a deadline: the only place of the integration tests that sleeps."""
import time


LEAST_SECONDS = 60  # of a wait that says nothing about time: machines are slow, or stall


def wait_until(condition, seconds=LEAST_SECONDS, what=None):
    """Returns the first true value of condition(). After the deadline: AssertionError with `what`, a text or a function."""
    return wait_within(condition, max(seconds, LEAST_SECONDS), what)


def wait_within(condition, seconds, what=None):
    """The same, where the time is part of what is promised: with room for a slow machine, and less than it takes otherwise."""
    deadline = time.monotonic() + seconds
    pause = 0.005
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            text = what() if callable(what) else what
            raise AssertionError(f"after {seconds} s still not: {text or condition.__name__}; last value {value!r}")
        time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
        pause = min(pause * 1.5, 0.1)


def stays(condition, seconds, what=None):
    """Watches that condition() is true all the time; to show that something does not happen, for which no event can be awaited."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert condition(), f"no longer so: {what() if callable(what) else what or condition.__name__}"
        time.sleep(min(0.02, seconds))

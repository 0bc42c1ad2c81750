"""Fixtures and rules of the tests in e2e/ and crash/: see tests/README.md."""

from harness.fixtures import *  # noqa: F403

"""Tests, simulators and contract suites."""

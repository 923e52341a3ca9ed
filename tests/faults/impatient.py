"""A pytest plugin for runs with an engine that hangs: its answers come within seconds, or it is given up."""

from taskgate.harness.engine import connection

connection.CALL_SECONDS = 3

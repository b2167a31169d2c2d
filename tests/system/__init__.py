"""Tests of the whole grid: real server, broker, nodes and containers."""

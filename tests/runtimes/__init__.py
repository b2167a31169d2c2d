"""Tests that run real containers and processes."""

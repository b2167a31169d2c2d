"""Tests that need the database."""

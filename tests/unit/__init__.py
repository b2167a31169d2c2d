"""Tests of pure code: no server, no engine, no disk outside a temporary folder."""

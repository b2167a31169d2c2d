"""Faults really injected, one for each row of the promise in docs/reliability.md."""

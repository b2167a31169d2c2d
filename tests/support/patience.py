"""How long tests wait: deadlines are for machines as people have them, and stretched where a machine is far slower."""

from __future__ import annotations

import os

PATIENCE = float(os.environ.get("TESTS_PATIENCE", "1"))
"""How many times longer than usual a test waits, and what its programs may take; the machine of ``scripts/test vm``
sets it."""

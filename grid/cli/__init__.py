"""The command ``grid``: thin over the client; every error is one clear message and an exit status.

Exit statuses: 0 all went well; 1 the grid said no, or nobody answers; 2 the input has faults; 130 interrupted.
``grid run`` and ``grid submit --wait`` end with the status of the task, see ``grid.cli.exits``.
"""

from __future__ import annotations

import gc
import os
import sys

# What is made while modules load stays: to look for garbage in it, again and again, is a tenth of a command's start.
gc.disable()

from grid.cli.app import app  # noqa: E402 - after the line above
from grid.cli.exits import BAD_INPUT, FAILED, INTERRUPTED  # noqa: E402
from grid.cli.printing import complain  # noqa: E402
from tasks.errors import GridError, SpecError  # noqa: E402

gc.freeze()
gc.enable()

__all__ = ["main"]


def main() -> None:
    """Run the command line of this process and exit with its status."""
    sys.exit(_run())


def _run() -> int:
    try:
        app(prog_name="grid")
    except SpecError as error:
        complain("\n".join(str(fault) for fault in error.faults))
        return BAD_INPUT
    except GridError as error:
        complain(str(error))
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        complain(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
        return FAILED
    except Exception as error:
        # The outermost loop: people get a sentence, not a traceback.
        if os.environ.get("GRID_DEBUG"):
            raise
        complain(f"internal error: {type(error).__name__}: {error} (GRID_DEBUG=1 shows where)")
        return FAILED
    return 0

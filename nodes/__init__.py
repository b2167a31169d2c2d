"""One node of the grid: takes attempts, runs them in containers under limits, reports what it saw."""

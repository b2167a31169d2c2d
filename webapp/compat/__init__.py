"""The protocols of other systems, each a thin door to the verbs of grid.core."""

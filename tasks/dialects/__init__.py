"""Other systems' descriptions of tasks and results, to and from ours: values only."""

"""Programs that run in the environment of kolejka's own packages, not in ours."""

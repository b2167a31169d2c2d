"""Hostile tasks, through a whole grid, and what the machine looks like afterwards."""

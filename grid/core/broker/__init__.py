"""The broker: wake-ups through it, its users, and what it says of itself."""

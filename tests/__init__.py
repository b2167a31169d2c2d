"""The proofs, sorted by cost: unit, django, runtimes, system; support holds what they share."""

"""The verbs behind kolejka's protocol, and the move from a kolejka server."""

"""Commands of the operator and the daemons of the server."""

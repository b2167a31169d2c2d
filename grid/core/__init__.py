"""The server's heart as a Django application: the records, the verbs on them, the dispatcher and the reconciler."""

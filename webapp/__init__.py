"""The doors of the server: pages, REST API, health and metrics, thin over the verbs of ``grid.core``."""

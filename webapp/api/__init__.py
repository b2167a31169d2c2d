"""The REST API under ``/api/v1``, one module for each noun; its description is at ``/api/docs``."""

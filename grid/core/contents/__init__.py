"""The bytes of files: where they are kept, who may read them, and when they go."""

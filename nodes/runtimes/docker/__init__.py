"""The runtime of containers, by Docker Engine or what speaks its API."""

from nodes.runtimes.docker.runtime import DockerRuntime

__all__ = ["DockerRuntime"]

"""The tables of the grid, one file for each family of nouns."""

from grid.core.models.access import Secret, Token
from grid.core.models.attempt import Attempt, OutputFile
from grid.core.models.blob import Blob, BlobOwner
from grid.core.models.event import Event
from grid.core.models.lock import Lock
from grid.core.models.node import Node
from grid.core.models.policy import AuditEntry, CpuUse, Mark, Policy
from grid.core.models.task import Demand, Dependency, InputFile, Task

__all__ = [
    "Attempt",
    "AuditEntry",
    "Blob",
    "BlobOwner",
    "CpuUse",
    "Demand",
    "Dependency",
    "Event",
    "InputFile",
    "Lock",
    "Mark",
    "Node",
    "OutputFile",
    "Policy",
    "Secret",
    "Task",
    "Token",
]

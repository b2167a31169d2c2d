"""The tables of the grid, one file for each family of nouns."""

from grid.core.models.access import Secret, Token
from grid.core.models.attempt import Attempt, OutputFile
from grid.core.models.blob import Blob, BlobOwner
from grid.core.models.event import Event
from grid.core.models.identity import Identity
from grid.core.models.kolejka import OlderKey, Reference
from grid.core.models.lock import Lock
from grid.core.models.node import Node, NodeSample
from grid.core.models.policy import AuditEntry, CpuSlice, CpuUse, Mark, Policy
from grid.core.models.task import Demand, Dependency, InputFile, Task
from grid.core.models.throttle import Failures
from grid.core.models.webhook import Delivery, DeliveryTry, MailWish, WebhookKey

__all__ = [
    "Attempt",
    "AuditEntry",
    "Blob",
    "BlobOwner",
    "CpuSlice",
    "CpuUse",
    "Delivery",
    "DeliveryTry",
    "Demand",
    "Dependency",
    "Event",
    "Failures",
    "Identity",
    "InputFile",
    "Lock",
    "MailWish",
    "Mark",
    "Node",
    "NodeSample",
    "OlderKey",
    "OutputFile",
    "Policy",
    "Reference",
    "Secret",
    "Task",
    "Token",
    "WebhookKey",
]

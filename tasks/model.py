"""The base of every frozen record of the grid that travels as JSON."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A frozen value; unknown fields are refused. A change is a new record: ``record.model_copy(update=...)``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

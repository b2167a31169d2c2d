"""One attempt while a node holds it: what it was told, its folder, how far it is, and the wish to end it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from nodes.runtimes import Stop
from nodes.spool import write_durably
from tasks.order import Order
from tasks.states import Phase


@dataclass(frozen=True, slots=True)
class AttemptFolder:
    """What a node keeps of one attempt beside its workspace: the order, the captured output, the collected files."""

    path: Path

    @property
    def stdout(self) -> Path:
        """The captured standard output."""
        return self.path / "stdout"

    @property
    def stderr(self) -> Path:
        """The captured standard error."""
        return self.path / "stderr"

    @property
    def collected(self) -> Path:
        """Where collected files wait for their upload."""
        return self.path / "collected"

    @property
    def staged(self) -> Path:
        """A mark that all input files are in the workspace: a later start of the agent does not write them again."""
        return self.path / "staged"

    def keep(self, order: Order) -> None:
        """Write the order down durably, so that the attempt can be gone on with after a crash of the agent."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_durably(self.path / "order.json", order.model_dump_json().encode())

    def keep_cores(self, cores: tuple[int, ...]) -> None:
        """Note the cores that the attempt is pinned to."""
        if cores:
            (self.path / "cores").write_text(" ".join(map(str, cores)))

    def cores(self) -> tuple[int, ...]:
        """The cores that were noted."""
        try:
            return tuple(int(word) for word in (self.path / "cores").read_text().split())
        except (FileNotFoundError, ValueError):
            return ()

    def order(self) -> Order | None:
        """The order that was kept here, or None when there is none, or none that can be read."""
        try:
            return Order.model_validate_json((self.path / "order.json").read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def remove(self) -> None:
        """Delete all of it."""
        shutil.rmtree(self.path, ignore_errors=True)


def folders_in(parent: Path) -> Iterator[AttemptFolder]:
    """The folders of all attempts that are on this node."""
    return (AttemptFolder(path) for path in sorted(parent.glob("*")) if path.is_dir())


@dataclass(slots=True, eq=False)
class Running:
    """An attempt that this agent works on. ``since`` is when its phase began, by the monotonic clock."""

    order: Order
    folder: AttemptFolder
    since: float
    phase: Phase = Phase.STAGING
    stop: Stop = field(default_factory=Stop)

    @property
    def attempt(self) -> str:
        """The attempt's id."""
        return self.order.attempt

    def enter(self, phase: Phase, now: float) -> None:
        """Go on to ``phase``."""
        self.phase, self.since = phase, now

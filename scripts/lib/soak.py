"""The visible part of scripts/soak: a grid of its own, thousands of tasks under random faults, then the account.

The account compares four books that are kept apart: what the clients were told (their journals), what the records say,
what the engine says of the containers that were started, and what is left on the machine. All must agree.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import soak_plan
import soak_records
from rich import box
from rich.console import Console
from rich.table import Table
from soak_clients import Submitted, read_journals, submit
from soak_faults import Faults, make_clients
from soak_grid import Program, SoakGrid, until
from soak_leftovers import Recorder, leftovers, noted_runs, processes

from tasks.errors import GridError

# So long without a task that becomes final, and what is not final is stuck.
STUCK_SECONDS = 90.0
# Cleaning up goes on in the background for a while.
CLEAN_SECONDS = 60.0
SAY_SECONDS = 5.0
SHOWN = 5
# A machine that is busy with other things too makes leases of two seconds lapse by itself. More tasks than this share
# that end by too many faults of the grid mean that something else is wrong.
EXHAUSTED_SHARE = 0.1

console = Console(stderr=True)


@dataclass
class Account:
    """All that was counted; it balances when nothing is in any of the lists."""

    seed: int
    minutes: float
    seconds_to_finish: float = 0.0
    submitted: int = 0
    starts: int = 0
    simulated: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    records: soak_records.Findings = field(default_factory=soak_records.Findings)
    changed: list[str] = field(default_factory=list)
    leaked: dict[str, list[str]] = field(default_factory=dict)
    surprises: list[str] = field(default_factory=list)
    submit_seconds: dict[str, float] = field(default_factory=dict)

    @property
    def faults_found(self) -> dict[str, list[str]]:
        """What must be empty, by name."""
        records = self.records
        return {
            "lost": records.lost + records.unknown,
            "doubled": records.doubled + self.changed,
            "stuck": records.stuck,
            "wrong verdicts": records.wrong,
            "leaked": [f"{kind}: {one}" for kind, some in self.leaked.items() for one in some],
            "ended by the grid too often": [f"{records.exhausted} tasks"] if self._too_many_exhausted else [],
            "surprises": self.surprises,
        }

    @property
    def _too_many_exhausted(self) -> bool:
        return self.records.exhausted > max(3, self.records.tasks * EXHAUSTED_SHARE)

    @property
    def balances(self) -> bool:
        """Whether everything is accounted for."""
        return not any(self.faults_found.values()) and self.submitted == self.records.tasks == self.records.final


@dataclass(frozen=True)
class Wanted:
    """What was asked for on the command line."""

    minutes: float
    seed: int
    nodes: int
    simulated: int
    slots: int
    clients: int
    json: Path | None
    keep: bool


def main() -> int:
    """Soak; 0 when the account balances, 1 when it does not."""
    wanted = parsed()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    folder = Path(tempfile.mkdtemp(prefix="celery-grid-soak-"))
    account = Soak(wanted, folder).run()
    show(account)
    if wanted.json:
        wanted.json.write_text(json.dumps(as_json(account), indent=2, default=str) + "\n")
    if account.balances and not wanted.keep:
        shutil.rmtree(folder)
    else:
        console.print(f"kept: {folder} (grid/logs, logs, faults.log, journals, grid/grid.sqlite3)", highlight=False)
    return 0 if account.balances else 1


def parsed() -> Wanted:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long faults are injected (default 10)")
    parser.add_argument("--seed", type=int, help="the same seed makes the same plan of tasks and faults")
    parser.add_argument("--nodes", type=int, default=2, help="nodes with containers (default 2)")
    parser.add_argument("--simulated", type=int, default=2, help="nodes whose containers are simulated (default 2)")
    parser.add_argument(
        "--slots",
        type=int,
        default=4,
        help="attempts at one time on each node, twice as many where simulated (default 4)",
    )
    parser.add_argument("--clients", type=int, default=3, help="client processes (default 3)")
    parser.add_argument("--json", type=Path, help="write the account to this file")
    parser.add_argument("--keep", action="store_true", help="keep the folder also when the account balances")
    found = parser.parse_args()
    seed = random.SystemRandom().randrange(1_000_000) if found.seed is None else found.seed
    return Wanted(**{**vars(found), "seed": seed})


class Soak:
    """One soak from the start of its grid to its account."""

    def __init__(self, wanted: Wanted, folder: Path) -> None:
        self._wanted = wanted
        self._folder = folder
        self._account = Account(wanted.seed, wanted.minutes)

    def run(self) -> Account:
        """Do it all."""
        recorder = Recorder(self._folder / "starts.jsonl")
        say(f"seed {self._wanted.seed}; starting a grid in {self._folder}")
        grid = SoakGrid(self._folder)
        try:
            grid.start(self._wanted.nodes, self._wanted.simulated, self._wanted.slots)
            soak_records.set_up(grid.server.variables)
            self._soak(grid, recorder)
        except GridError as error:
            self._account.surprises.append(str(error))
        finally:
            say("ending the grid")
            stubborn = grid.end()
            recorder.close()
        self._account.surprises += [f"{name} did not end by SIGTERM" for name in stubborn]
        self._account.leaked["processes"] = processes(self._folder)
        after = leftovers(self._folder, grid.server.directory, [node.config for node in grid.nodes])
        self._account.leaked |= {f"{kind} after the end": some for kind, some in after.items()}
        return self._account

    def _soak(self, grid: SoakGrid, recorder: Recorder) -> None:
        watch = soak_records.Watch(time.monotonic)
        crowd = make_clients(grid, self._wanted.clients, self._wanted.seed)
        faults = Faults(grid, self._wanted.seed, crowd, soak_records.words)
        self._trouble(faults, watch, crowd)
        say("no more faults; repairing")
        grid.repair()
        submitted = finish_submits(grid, self._folder / "journals")
        began = time.monotonic()
        self._drain(watch)
        self._account.seconds_to_finish = round(time.monotonic() - began, 1)
        self._settle(grid)
        watch.close()
        self._close_books(grid, recorder, submitted)
        self._account.changed = watch.changed
        self._account.faults = dict(sorted(faults.counted.items()))
        self._account.surprises += faults.surprises

    def _trouble(self, faults: Faults, watch: soak_records.Watch, crowd: list[Program]) -> None:
        """Faults for as long as was asked, while clients submit."""
        seconds = self._wanted.minutes * 60
        plan = soak_plan.faults(self._wanted.seed, seconds)
        began = time.monotonic()
        player = threading.Thread(target=faults.play, args=(plan, began), daemon=True)
        player.start()
        try:
            while time.monotonic() < began + seconds:
                time.sleep(min(SAY_SECONDS, max(0.1, began + seconds - time.monotonic())))
                left = began + seconds - time.monotonic()
                say(f"{left:4.0f} s left; {states(watch)}; {faults.counted.total()} faults, latest: {faults.latest}")
        finally:
            faults.stop()
            player.join()
            self._account.surprises += [
                f"{one.name} ended by itself; see {one.log}" for one in crowd if one.process and one.process.poll()
            ]
            for one in crowd:
                one.end(signal.SIGKILL)

    def _drain(self, watch: soak_records.Watch) -> None:
        """Until all tasks are final, or nothing moves any more."""
        watch.look()
        watch.moved = time.monotonic()
        said = 0.0
        while watch.open and time.monotonic() < watch.moved + STUCK_SECONDS:
            if time.monotonic() > said + SAY_SECONDS:
                say(f"finishing: {states(watch)}")
                said = time.monotonic()
            time.sleep(0.2)

    def _settle(self, grid: SoakGrid) -> None:
        """Wait for what is cleaned up in the background, and note what was not."""
        configs = [node.config for node in grid.nodes]

        def left() -> dict[str, list[str]]:
            return leftovers(self._folder, grid.server.directory, configs)

        try:
            until(lambda: not any(left().values()), "cleaning up", CLEAN_SECONDS)
        except GridError:
            self._account.leaked |= left()

    def _close_books(self, grid: SoakGrid, recorder: Recorder, submitted: dict[str, Submitted]) -> None:
        account = self._account
        if not recorder.alive():
            account.surprises.append("the engine has closed its stream of events: starts were not all counted")
        runs = recorder.runs(node.config.identity for node in grid.nodes)
        account.starts = len(runs)
        runs += noted_runs(grid.notes)
        account.simulated = len(runs) - account.starts
        account.submitted = len({task_id for one in submitted.values() for task_id in one.ids})
        account.records = soak_records.audit(submitted, runs)
        waits = sorted(seconds for one in submitted.values() for seconds in one.seconds) or [0.0]
        for name, share in (("median", 0.5), ("p99", 0.99), ("longest", 1.0)):
            account.submit_seconds[name] = waits[min(len(waits) - 1, int(len(waits) * share))]


def finish_submits(grid: SoakGrid, journals: Path) -> dict[str, Submitted]:
    """What the clients have submitted; what a killed one has begun and was not answered is submitted once more."""
    found = read_journals(journals)
    for one in found.values():
        if not one.ids:
            one.ids.add(submit(grid.client, one.key, one.body))
    return found


def states(watch: soak_records.Watch) -> str:
    """The tasks by state, in words."""
    return ", ".join(f"{number} {state}" for state, number in sorted(watch.states.items())) or "no tasks"


def say(words: str) -> None:
    """A line of progress."""
    console.print(f"{time.strftime('%H:%M:%S')} {words}", highlight=False, markup=False)


def as_json(account: Account) -> dict[str, Any]:
    """The account for programs."""
    zeros = {name: len(some) for name, some in account.faults_found.items()}
    records = {**vars(account.records)}
    counts = {name: dict(value) for name, value in records.items() if isinstance(value, Counter)}
    return {"balances": account.balances, "zeros": zeros, **vars(account), "records": {**records, **counts}}


def show(account: Account) -> None:
    """The tables, and what is wrong."""
    out = Console(width=140)
    records = account.records
    out.print(
        table(
            f"a soak of {account.minutes:g} min, seed {account.seed}, load of the machine {os.getloadavg()[1]:.1f}",
            [
                ("tasks that clients were given ids of", account.submitted),
                ("tasks in the records", records.tasks),
                ("final tasks", records.final),
                ("attempts", records.attempts),
                ("starts of containers", account.starts),
                ("starts on simulated nodes", account.simulated),
                ("runs beside one on a node that was cut off", records.overlapping),
                ("outcomes accepted from nodes", records.accepted),
                ("ended by too many faults of the grid", records.exhausted),
                ("seconds to finish after the repair", account.seconds_to_finish),
                *((f"seconds of a submit, {name}", seconds) for name, seconds in account.submit_seconds.items()),
            ],
        )
    )
    out.print(table("verdicts", list(records.verdicts.most_common())))
    out.print(table("attempts that were tried again", list(records.retried.most_common())))
    out.print(table("faults injected", list(account.faults.items())))
    out.print(table("must be 0", [(name, len(some)) for name, some in account.faults_found.items()]))
    for name, some in account.faults_found.items():
        for line in some[:SHOWN]:
            out.print(f"[red]{name}[/]: ", end="")
            out.print(line, markup=False, highlight=False)
    out.print("[green]the account balances[/]" if account.balances else "[red]the account does not balance[/]")


def table(title: str, rows: Sequence[tuple[str, int | float]]) -> Table:
    """Names and figures."""
    made = Table(box=box.SIMPLE, min_width=60)
    made.add_column(title)
    made.add_column("", justify="right")
    for name, figure in rows:
        made.add_row(name or "none", f"{figure:g}" if isinstance(figure, float) else str(figure))
    return made


if __name__ == "__main__":
    sys.exit(main())

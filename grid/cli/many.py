"""The commands that take several tasks: cancel, retry, rm; and copy, the sister of retry."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Annotated

import typer

from grid.cli import common, printing
from grid.client import Client
from tasks.errors import Refused
from tasks.views import MOST_MANY, ManyBody, ManyItem, ManyView

ID_LENGTH = 32


def cancel(
    task_ids: common.TaskIds,
    reason: Annotated[str, typer.Option(help="Why; it is kept with the tasks.")] = "",
    as_json: common.AsJson = False,
) -> None:
    """Ask for the end of tasks; of several, what is refused is said for each."""
    with Client() as client:
        if len(task_ids) > 1:
            ids = _whole(client, task_ids)
            items = _each(ids, lambda some: client.cancel_many(ManyBody(ids=some, reason=reason)))
            _show(items, as_json=as_json, words=lambda item: f"{item.task}\tcancelling")
            return
        task = client.find(task_ids[0]).cancel(reason)
    if as_json:
        printing.say_json(task.view)
        return
    printing.say(f"{task.id}\t{task.state if task.final else 'cancelling'}")


def retry(task_ids: common.TaskIds, as_json: common.AsJson = False) -> None:
    """Run tasks that have ended again as they were, for the same owner; print the ids of the new tasks."""
    key = uuid.uuid4().hex
    with Client() as client:
        ids = _whole(client, task_ids)
        items = _each(ids, lambda some: client.retry_many(ManyBody(ids=some), key))
    _show(items, as_json=as_json, words=lambda item: item.made)


def copy(
    task_id: common.TaskId,
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Another value, as JSON or a plain word.")
    ] = None,
    as_json: common.AsJson = False,
) -> None:
    """Run a task again as a new one of yours, with changes to its description; print the new task's id."""
    changes = dict(_change(one) for one in change or [])
    with Client() as client:
        made = client.find(task_id).copy(**changes)
    if as_json:
        printing.say_json(made.view)
        return
    printing.say(made.id)


def remove(task_ids: common.TaskIds) -> None:
    """Remove tasks that have ended, with their logs and files."""
    refused = False
    with Client() as client:
        for task_id in _whole(client, task_ids):
            try:
                client.remove_task(task_id)
            except Refused as error:
                printing.note(f"{task_id}: {error}")
                refused = True
    if refused:
        raise typer.Exit(1)


def _change(text: str) -> tuple[str, object]:
    key, sign, value = text.partition("=")
    if not (key and sign):
        raise typer.BadParameter(f'"{text}" is not KEY=VALUE', param_hint="--set")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def _whole(client: Client, given: list[str]) -> list[str]:
    """The ids that are meant; a whole one is not asked for."""
    return [one if len(one) == ID_LENGTH else client.find(one).id for one in given]


def _each(ids: list[str], act: Callable[[tuple[str, ...]], ManyView]) -> list[ManyItem]:
    parts = [tuple(ids[start : start + MOST_MANY]) for start in range(0, len(ids), MOST_MANY)]
    return [item for part in parts for item in act(part).items]


def _show(items: list[ManyItem], *, as_json: bool, words: Callable[[ManyItem], str]) -> None:
    """Say what was done; with status 1 when something was refused."""
    if as_json:
        printing.say_json(items)
    for item in items:
        if not item.done:
            printing.note(f"{item.name or item.task}: {item.reason}")
        elif not as_json:
            printing.say(words(item))
    if any(not item.done for item in items):
        raise typer.Exit(1)

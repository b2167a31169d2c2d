"""What a submitted task gets and needs: its effective limits, and its demand on a node."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from grid.core.conf import GridSettings
from grid.core.delivery import outbox
from grid.core.people import standing
from tasks.errors import Fault
from tasks.limits import LIMIT_NAMES, Limits, combine
from tasks.placement import Demand
from tasks.spec import TaskSpec

# Cards are counted by placement itself; a node without them never fits.
_COUNTED = frozenset({"gpus", "gpu_memory"})
NO_LIMITS = Limits()


def effective_limits(spec: TaskSpec, settings: GridSettings, owned: Limits = NO_LIMITS) -> Limits:
    """The limits of a task, the node's aside: what it asks, else the server's default, never above the caps.

    ``owned`` are the caps of its owner (``standing.caps``), beside those of the server.
    """
    asked = {name: value for name in LIMIT_NAMES if (value := getattr(spec.limits, name)) is not None}
    filled = settings.default_limits.model_copy(update=asked)
    network = bool(filled.network) and settings.allow_network and owned.network is not False
    return combine(filled, settings.max_limits, owned).model_copy(update={"network": network})


def policy_faults(spec: TaskSpec, settings: GridSettings) -> list[Fault]:
    """What the spec asks and this server does not give."""
    faults = []
    if spec.limits.network and not settings.allow_network:
        faults.append(
            Fault("limits.network", "the network is not allowed on this grid", "leave it out, or ask the operator")
        )
    if not spec.image and spec.runtime in (None, "docker"):
        faults.append(Fault("image", "is missing; a container needs one", 'write "image": "ubuntu", say'))
    if spec.callback_url:
        faults += outbox.url_faults(spec.callback_url, settings)
    return faults


def owner_faults(owner_id: int, spec: TaskSpec, settings: GridSettings, now: datetime) -> list[Fault]:
    """What the spec asks and its owner may not have, by what was decided for them and their groups."""
    faults = []
    if spec.limits.network and settings.allow_network and standing.caps(owner_id, now).network is False:
        faults.append(Fault("limits.network", "the network is not allowed to you", "leave it out, or ask the operator"))
    if spec.callback_url and settings.allow_callbacks and not outbox.has_key(owner_id):
        hint = "make one first: POST /api/v1/webhooks/secret"
        faults.append(Fault("callback_url", "you have no secret with which the server could sign", hint))
    if spec.image and not standing.may_use_image(owner_id, spec.image, settings, now):
        faults.append(
            Fault("image", f"{spec.image} is not among the images that you may use", "ask the operator which ones are")
        )
    if not standing.may_use_profile(owner_id, spec.profile, settings, now):
        hint = "leave it out, or ask the operator to allow it to you or to a group of yours (page People)"
        faults.append(Fault("profile", f"the container profile {spec.profile} is not allowed to you", hint))
    return faults


def demand_of(owner_id: int, spec: TaskSpec, limits: Limits) -> Demand:
    """The demand of a task; ``key`` is the same for all tasks of one owner with the same needs."""
    asked = {name for name in LIMIT_NAMES if getattr(spec.limits, name) is not None}
    fields: dict[str, Any] = {
        "owner": str(owner_id),
        "priority": spec.priority,
        "cpus": limits.cpus or 0.0,
        "memory": limits.memory or 0,
        "swap": limits.swap or 0,
        "pids": limits.pids or 0,
        "storage": limits.storage or 0,
        "gpus": limits.gpus or 0,
        "gpu_memory": limits.gpu_memory or 0,
        "requires": sorted(spec.requires),
        "exclusive": spec.exclusive,
        "resources": sorted(spec.resources.items()),
        "runtime": spec.runtime or "docker",
        "must_enforce": sorted(asked - set(spec.best_effort) - _COUNTED),
        "time_seconds": limits.time,
        "singleton": f"{owner_id}:{spec.singleton}" if spec.singleton else "",
    }
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return demand_from({**fields, "key": hashlib.sha256(text.encode()).hexdigest()})


def demand_data(demand: Demand) -> dict[str, Any]:
    """A demand as JSON, for its row."""
    return {
        name: sorted(value) if isinstance(value, frozenset) else value
        for name in Demand.__dataclass_fields__
        if (value := getattr(demand, name)) is not None
    }


def demand_from(data: Mapping[str, Any]) -> Demand:
    """The demand that ``demand_data`` wrote."""
    return Demand(
        **{
            **data,
            "requires": frozenset(data["requires"]),
            "must_enforce": frozenset(data["must_enforce"]),
            "resources": tuple((name, count) for name, count in data["resources"]),
        }
    )

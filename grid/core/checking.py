"""What a submit would say, without making anything: the same rules as of the one door (``grid.core.intake``)."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from itertools import islice

from django.contrib.auth.models import User

from grid.core import intake, offers, policy
from grid.core.conf import conf
from grid.core.people import access, quotas, standing
from grid.core.reading.similar import similar
from tasks.errors import Fault, SpecError
from tasks.limits import Limits
from tasks.spec import TaskSpec, parse_spec
from tasks.specform import limit_texts
from tasks.terms import Rules
from tasks.views import CheckView, Problem

MOST_IMAGES = 200


def check(
    owner: User, spec: object, *, default_name: str, now: datetime, lent: Collection[str] = frozenset()
) -> CheckView:
    """What would become of a description, whose files may still be paths. ``lent`` are contents not to ask for.

    Raises NotAllowed for who may not submit.
    """
    access.check_submit(owner)
    try:
        parsed = parse_spec(spec, default_name=default_name)
    except SpecError as error:
        return CheckView(problems=problems_of(error.faults))
    meant = intake.as_meant(owner, parsed, now)
    limits = policy.effective_limits(meant, conf(), standing.caps(owner.pk, now))
    demand = policy.demand_of(owner.pk, meant, limits)
    faults = intake.refusals(owner, meant, demand, now) + quotas.submit_faults(owner.pk, 1, now)
    references = [file.reference for file in meant.files.values() if file.reference and file.reference not in lent]
    return CheckView(
        problems=problems_of(faults),
        missing=tuple(access.missing_blobs(owner, references, now)),
        limits=limits,
        lowered=_lowered(parsed.limits, limits),
        similar=similar(owner, meant),
    )


def _lowered(asked: Limits, given: Limits) -> dict[str, str]:
    """What a task asks for and does not get, in words by the name of the limit."""
    return {
        name: f"asked {wish}; at most {text} is given here"
        for name, wish in limit_texts(asked).items()
        if name != "network" and (text := limit_texts(given).get(name, wish)) != wish
    }


def problems_of(faults: Collection[Fault]) -> tuple[Problem, ...]:
    """Faults as the API shows them."""
    return tuple(Problem(path=fault.path, message=fault.message, hint=fault.hint) for fault in faults)


def images_for(owner: User, now: datetime) -> list[str]:
    """Images to suggest to somebody: what nodes have and what lists name, as far as they may be used."""
    known = standing.book(now)
    rules = known.users.get(owner.pk, Rules())
    named = [conf().images, conf().image_names, rules.images, rules.image_names]
    for club in known.clubs_of.get(owner.pk, ()):
        named += [club.rules.images, club.rules.image_names]
    found = {name for names in named for name in names if not set(name) & set("*?[")}
    offered = offers.current()
    if offered is not None:
        found |= {image.removesuffix(":latest") for image in offered.images if "@" not in image}
    # By the name that a task would say, and by the image that it would get.
    allowed = (
        name
        for name in sorted(found)
        if standing.may_use_image(owner.pk, standing.image_for(owner.pk, name, conf(), now), conf(), now)
    )
    return list(islice(allowed, MOST_IMAGES))


def default_limits(owner: User, now: datetime) -> Limits:
    """The limits of a task that says nothing about them."""
    return policy.effective_limits(TaskSpec(), conf(), standing.caps(owner.pk, now))

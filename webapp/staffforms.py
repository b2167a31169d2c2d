"""The forms of accounts, tokens and policies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib.auth.models import Group
from pydantic import ValidationError

from tasks.profiles import Profile
from tasks.terms import KEPT, Rules
from tasks.units import format_size

_QUOTA = ("running", "queued", "cpu_hours", "days", "storage")
_LIMITS = ("memory", "cpus", "time", "pids")


def _words(label: str, example: str = "", *, lines: int = 0) -> forms.CharField:
    hint = {"placeholder": example, "autocomplete": "off"}
    if lines:
        area = forms.Textarea(attrs={**hint, "rows": lines, "spellcheck": "false"})
        return forms.CharField(required=False, label=label, max_length=20_000, widget=area)
    return forms.CharField(required=False, label=label, max_length=100, widget=forms.TextInput(attrs=hint))


class RulesForm(forms.Form):
    """What is decided for a user or a group; ``rules`` is made of it once it is valid."""

    running = _words("Tasks that run at a time", "no bound")
    queued = _words("Tasks that wait at a time", "no bound")
    cpu_hours = _words("Cpu-hours", "no bound")
    days = _words("… in so many days", "7")
    storage = _words("Files that are stored", "no bound, or 20G")
    memory = _words("Memory of a task", "no cap, or 4G")
    cpus = _words("Processors of a task", "no cap")
    time = _words("Time of a task", "no cap, or 2h")
    pids = _words("Processes of a task", "no cap")
    no_network = forms.BooleanField(required=False, label="No network, whatever the task asks")
    images = _words("Images that may be used, one pattern a line", "ubuntu:*", lines=3)
    image_names = _words("Images put in place of others, one “from = to” a line", "old/* = new/*", lines=2)
    judge = forms.BooleanField(required=False, label="The container profile “judge”: root inside of the container")
    kept_files = _words("Days for which output files are kept", "for ever, or success 30, * 90")
    kept_inputs = _words("… input files", "for ever")
    kept_logs = _words("… logs", "for ever")
    kept_tasks = _words("… the whole record", "for ever")
    share = forms.BooleanField(required=False, label="Members of the same group see the tasks")

    rules = Rules()

    @classmethod
    def of(cls, rules: Rules) -> RulesForm:
        """The form with what is decided now."""
        quota, limits = rules.quota, rules.limits
        found: dict[str, object] = {name: getattr(quota, name) for name in _QUOTA}
        found |= {name: getattr(limits, name) for name in _LIMITS}
        for name, size in (("storage", quota.storage), ("memory", limits.memory)):
            found[name] = "" if size is None else format_size(size)
        found["judge"] = Profile.JUDGE in rules.profiles
        found["no_network"], found["share"] = limits.network is False, rules.share
        found["images"] = "\n".join(rules.images)
        found["image_names"] = "\n".join(f"{before} = {after}" for before, after in rules.image_names.items())
        for kind in KEPT:
            days: dict[str, float] = getattr(rules.retention, kind)
            # What holds for all others comes last; the database keeps no order.
            in_order = sorted(days.items(), key=lambda pair: (pair[0] == "*", pair[0]))
            found[f"kept_{kind}"] = ", ".join(f"{word} {number:g}" for word, number in in_order)
        return cls(initial={name: "" if value is None else value for name, value in found.items()})

    def clean(self) -> dict[str, Any]:
        """Read all fields as one record; each of its faults is told at its field."""
        given: dict[str, Any] = super().clean() or {}
        try:
            self.rules = Rules.model_validate(self._data(given))
        except ValidationError as error:
            for fault in error.errors():
                steps = [str(step) for step in fault["loc"]]
                named = [name for step in steps for name in (step, f"kept_{step}") if name in self.fields]
                name = named[0] if named else None
                self.add_error(name, fault["msg"].removeprefix("Value error, "))
        return given

    def _data(self, given: Mapping[str, Any]) -> dict[str, Any]:
        limits: dict[str, Any] = {name: given[name] for name in _LIMITS if given.get(name)}
        if given.get("no_network"):
            limits["network"] = False
        return {
            "quota": {name: given[name] for name in _QUOTA if given.get(name)},
            "limits": limits,
            "images": [line.strip() for line in given.get("images", "").splitlines() if line.strip()],
            "image_names": self._pairs("image_names", given.get("image_names", "").splitlines(), "="),
            "profiles": [str(Profile.JUDGE)] if given.get("judge") else [],
            "retention": {kind: self._days(f"kept_{kind}", given.get(f"kept_{kind}", "")) for kind in KEPT},
            "share": given.get("share", False),
        }

    def _days(self, name: str, text: str) -> dict[str, str]:
        """``30`` is for all ends, ``success 30, * 90`` tells them apart."""
        parts = [part.strip() for part in text.split(",")]
        return self._pairs(name, [part if " " in part or not part else f"* {part}" for part in parts], " ")

    def _pairs(self, name: str, parts: list[str], middle: str) -> dict[str, str]:
        found = {}
        for part in parts:
            before, sign, after = part.strip().partition(middle)
            if part.strip() and not (sign and before.strip() and after.strip()):
                self.add_error(name, f"“{part.strip()}” is not of the form that is asked for")
            elif part.strip():
                found[before.strip()] = after.strip()
        return found


class PersonForm(forms.Form):
    """The groups of a user, and whether the account is open."""

    groups = forms.ModelMultipleChoiceField(
        queryset=Group.objects.order_by("name"), required=False, widget=forms.CheckboxSelectMultiple
    )
    active = forms.BooleanField(required=False, label="The account is open")


class NewUserForm(forms.Form):
    """A new account."""

    name = forms.CharField(max_length=150)
    email = forms.EmailField(required=False)


class NewGroupForm(forms.Form):
    """A new group."""

    group = forms.CharField(max_length=150, label="Name")


class TokenForm(forms.Form):
    """A new token: its name, what it opens, and for how long."""

    name = forms.CharField(max_length=100)
    opens = forms.ChoiceField(
        label="It may",
        choices=[("read", "read"), ("submit", "read, submit and cancel"), ("admin", "all, as an operator")],
    )
    days = forms.FloatField(required=False, min_value=0.01, max_value=36_500, label="Days until it expires")

"""The forms of the pages."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.files.uploadedfile import UploadedFile

from tasks.states import TaskState
from tasks.verdicts import Verdict


def _choices(words: list[str], everything: str) -> list[tuple[str, str]]:
    return [("", everything), *((word, word.replace("_", " ")) for word in words)]


def _search(placeholder: str, **attributes: str) -> forms.TextInput:
    return forms.TextInput(attrs={"type": "search", "placeholder": placeholder, "autocomplete": "off", **attributes})


class FilterForm(forms.Form):
    """What the list of tasks is narrowed to; it lives in the address."""

    text = forms.CharField(required=False, max_length=200, widget=_search("part of the name, or an id"))
    state = forms.ChoiceField(required=False, choices=_choices([str(one) for one in TaskState], "any state"))
    verdict = forms.ChoiceField(required=False, choices=_choices([str(one) for one in Verdict], "any verdict"))
    label = forms.CharField(required=False, max_length=400, widget=_search("key or key=value"))
    node = forms.CharField(required=False, max_length=100, widget=_search("name", list="nodes"))
    owner = forms.CharField(required=False, max_length=150, widget=_search("name"))
    cause = forms.CharField(required=False, max_length=100, widget=forms.HiddenInput)


class CancelForm(forms.Form):
    """Why a task is cancelled."""

    reason = forms.CharField(
        required=False, max_length=500, widget=forms.TextInput(attrs={"placeholder": "why (optional)"})
    )


class NodeForm(forms.Form):
    """Why a node is cordoned, drained or resumed, and when a drain ends what still runs there."""

    reason = forms.CharField(required=False, max_length=500, widget=forms.TextInput(attrs={"placeholder": "why"}))
    minutes = forms.FloatField(required=False, min_value=0, max_value=525_600)


class JoinForm(forms.Form):
    """The node that may join; ``renew`` gives one that is there a new token."""

    name = forms.CharField(max_length=100, widget=forms.TextInput(attrs={"placeholder": "lab7", "autocomplete": "off"}))
    renew = forms.BooleanField(required=False)


class SeveralFiles(forms.ClearableFileInput):
    """An input that takes many files."""

    allow_multiple_selected = True


class FilesField(forms.FileField):
    """Many files; the cleaned value is a list."""

    widget = SeveralFiles

    def clean(self, data: object, initial: object = None) -> list[UploadedFile[Any]]:
        """The files that were chosen."""
        given = data if isinstance(data, list | tuple) else [data] if data else []
        return [super(FilesField, self).clean(one, initial) for one in given]


class SubmitForm(forms.Form):
    """The files of a task, by one of three ways; what the task says is read by ``webapp.taskform``."""

    folder = FilesField(required=False, widget=SeveralFiles(attrs={"webkitdirectory": True}))
    archive = forms.FileField(
        required=False, widget=forms.FileInput(attrs={"accept": ".zip,.tar,.tgz,.gz,.bz2,.xz,.json"})
    )
    spec = forms.CharField(
        required=False,
        strip=False,
        max_length=4 * 1024**2,
        widget=forms.Textarea(attrs={"rows": 10, "spellcheck": "false", "autocomplete": "off"}),
    )
    inputs = FilesField(required=False)
    key = forms.CharField(max_length=64, widget=forms.HiddenInput)

    def clean(self) -> dict[str, object]:
        """At most one of the three ways."""
        found: dict[str, object] = super().clean() or {}
        ways = [way for way in ("folder", "archive", "spec") if found.get(way)]
        if len(ways) > 1:
            raise forms.ValidationError(f"Use one way at a time; you gave {' and '.join(ways)}.")
        if found.get("inputs") and ways not in ([], ["spec"]):
            raise forms.ValidationError("Single files stand alone; a folder or an archive has its own.")
        return found

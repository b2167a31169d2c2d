"""What strangers write is text on every page: a corpus goes through every field, and every page that has a link to it
is read by a parser that follows the standard of HTML as browsers do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import unescape
from urllib.parse import quote, urljoin, urlsplit

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import Resolver404, resolve
from django.utils import timezone
from selectolax.lexbor import LexborHTMLParser

from grid.core import logs, outcomes, records, secretbox
from grid.core.models import Node, Secret, Task
from grid.core.people import throttle
from tests.django import builders as given
from tests.django import doors
from tests.support.hostile import CORPUS, MARK

pytestmark = pytest.mark.django_db

URLS = ("href", "src", "action", "formaction", "data", "poster", "srcset", "xlink:href", "hx-get", "hx-post")
MOST_OF_A_KIND = 8


def inner_name(payload: str) -> str:
    """The payload as the name of a file."""
    return re.sub(r"[/\x00-\x1f\\]", "-", payload)


def a_task_full_of(payload: str, number: int) -> Task:
    """A task whose every field that takes text has the payload, and its owner's name too."""
    now, word = timezone.now(), payload.strip()
    clean = re.sub(r"[\x00-\x1f]", " ", word)
    # No door makes an account with a slash in its name, which is a part of addresses.
    name = f"{inner_name(payload)[:120]} {number}"
    owner = User.objects.create(username=name, email=f"{payload}@x", first_name=payload[:100])
    owner.groups.add(Group.objects.create(name=f"{clean[:120]} {number}"))
    Secret.objects.create(owner=owner, name=f"{payload[:40]} {number}", value=secretbox.seal("v"), changed_at=now)
    task, attempt, order = given.running(now, owner=owner, args=["echo", word], environment={"WORD": word})
    spec = {**task.spec, "name": clean, "labels": {clean: clean}, "args": ["echo", word], "stdout": inner_name(clean)}
    Task.objects.filter(pk=task.pk).update(name=clean, labels={clean: clean}, spec=spec)
    for stream in ("stdout", "stderr"):
        logs.append(attempt.id, stream, 0, payload.encode())
    files = {f"out/{inner_name(word)}.{end}": payload.encode() for end in ("txt", "html", "svg", "png")}
    fault = {"kind": "runtime_error", "message": payload} if number % 3 == 0 else None
    outcome = given.an_outcome(order, files, exit_code=None if fault else number % 2, fault=fault)
    outcomes.accept(attempt.node, outcome, now)
    waiting = given.a_task(now, owner=owner, labels={"plain": "yes"})
    Task.objects.filter(pk=waiting.pk).update(name=clean)
    if number % 2:
        waiting.refresh_from_db()
        records.cancel(waiting, by=owner.username, reason=payload, now=now)
    doors.a_token(owner)
    throttle.login_failed(owner.username, payload[:60], now)
    return Task.objects.get(pk=task.pk)


@pytest.fixture
def tasks() -> list[Task]:
    """One task of each payload, and a node that says such things too."""
    made = [a_task_full_of(payload, number) for number, payload in enumerate(CORPUS)]
    for number, payload in enumerate(CORPUS):
        node = given.a_node(timezone.now(), f"node{number}", images=(payload,), tags=(payload,))
        Node.objects.filter(pk=node.pk).update(mode="cordoned", mode_by=payload[:100], mode_reason=payload[:200])
    return made


def crawl(client: Client, starts: list[str]) -> Iterator[tuple[str, str]]:
    """Every page that the starts lead to, each once; of a kind of page ``MOST_OF_A_KIND`` beside the starts."""
    todo, seen, kinds = list(starts), set(starts), dict[str, int]()
    while todo:
        path = todo.pop(0)
        answer = client.get(path)
        kind = answer.headers.get("Content-Type", "")
        assert answer.status_code < 500, path
        if answer.status_code in (301, 302):
            links = [answer.headers["Location"]]
        elif kind.startswith("text/html"):
            page = answer.content.decode()
            yield path, page
            links = [node.attributes.get("href") or "" for node in LexborHTMLParser(page).css("a[href]")]
        else:
            # To its end, which unlike close() leaves the test's transaction alone.
            assert sum(map(len, answer)) >= 0
            continue
        for link in links:
            there = urlsplit(urljoin(path, link))
            found = f"{there.path}?{there.query}" if there.query else there.path
            route = _route(there.path)
            if there.netloc or found in seen or not route or kinds.get(route, 0) >= MOST_OF_A_KIND:
                continue
            kinds[route] = kinds.get(route, 0) + 1
            seen.add(found)
            todo.append(found)


def _route(path: str) -> str:
    """The kind of page, empty for what is no page of ours."""
    if path.startswith(("/static/", "/api/", "/flower")):
        return ""
    try:
        return resolve(path).route
    except Resolver404:
        return ""


def faults_of(page: str) -> list[str]:
    """What came alive on a page, or what its policy would have to stop."""
    found = []
    for node in LexborHTMLParser(page).css("*"):
        names = {name.lower() for name in node.attributes}
        if MARK in str(node.tag) or any(MARK in name or name.startswith("on") for name in names) or "style" in names:
            found.append(f"{node.tag} {sorted(names)}")
        if (node.tag == "script" and "src" not in names and _runs(node.attributes)) or node.tag == "style":
            found.append(f"inline {node.tag}")
        if node.tag in ("iframe", "object", "embed", "base"):
            found.append(str(node.tag))
        for name in names & set(URLS):
            address = re.sub(r"[\x00-\x20]", "", unescape(node.attributes.get(name) or "")).lower()
            if address.startswith(("javascript:", "vbscript:", "data:", "//")):
                found.append(f"{name}={address}")
    return found


def _runs(attributes: dict[str, str | None]) -> bool:
    """Scripts of data do not run."""
    return attributes.get("type") not in ("application/json",)


def test_every_page_shows_what_strangers_wrote_as_text(tasks: list[Task]) -> None:
    operator = given.a_user("operator", staff=True)
    operator.is_superuser = True
    operator.save()
    starts = ["/", "/nodes/", "/queue/", "/submit/", "/account/", "/staff/", "/staff/audit/", "/admin/"]
    starts += [f"/tasks/{task.id}/" for task in tasks]
    starts += [f"/tasks/{task.id}/?stream=stderr" for task in tasks[:3]]
    starts += [f"/?{name}={quote(word)}" for word in CORPUS[:12] for name in ("text", "label", "owner", "node")]
    starts += [f"/login/?next={quote(word)}" for word in CORPUS[:6]]
    pages = list(crawl(doors.browser_of(operator), starts))
    assert {path: faults_of(page) for path, page in pages if faults_of(page)} == {}
    told = "".join(unescape(page) for _, page in pages)
    assert [word for word in CORPUS if word.strip() not in told] == []
    assert len({_route(urlsplit(path).path) for path, _ in pages}) >= 15
    assert len(pages) >= 100


def test_forms_give_back_what_was_wrong_as_text(settings: LazySettings) -> None:
    browser = doors.browser_of(given.a_user())
    for payload in CORPUS:
        for spec in (payload, json.dumps({payload: payload, "image": payload, "args": payload})):
            answer = browser.post("/submit/", {"key": "k", "spec": spec, "name": payload})
            assert (answer.status_code, faults_of(answer.content.decode())) == (422, [])
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    for payload in CORPUS:
        answer = Client().post("/login/", {"username": payload, "password": payload, "next": payload})
        assert faults_of(answer.content.decode()) == []


@pytest.mark.django_db(transaction=True)
def test_files_and_logs_come_as_downloads_that_no_browser_runs(tasks: list[Task]) -> None:
    operator = doors.browser_of(given.a_user("operator", staff=True))
    for task in tasks[::5]:
        assert task.attempt is not None
        for row in task.attempt.outputs.all():
            answer = operator.get(f"/api/v1/tasks/{task.id}/files/{quote(row.path)}")
            assert answer.status_code == 200
            answer.close()
            assert answer.headers["Content-Type"] == "application/octet-stream"
            assert answer.headers["Content-Disposition"].startswith("attachment")
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "sandbox" in answer.headers["Content-Security-Policy"]
            assert not re.search(r"[\r\n]", answer.headers["Content-Disposition"])


def test_the_parser_and_the_marks_find_what_comes_alive() -> None:
    alive = [payload for payload in CORPUS if faults_of(f"<!doctype html><p>{payload}</p>")]
    assert len(alive) >= 25
    assert faults_of('<a href=" java\tscript:alert(1)">')

"""The page that takes tasks, at a browser: choosing, dropping, checks while one types, what is sent and what not."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from uuid import uuid4

import pytest
from playwright.sync_api import FilePayload, Page, Route, expect

from tests.browser.conftest import Visits
from tests.browser.visits import NARROW, WIDE, overflow
from tests.browser.world import ADA, World
from tests.support.jobs import IMAGE

TASK_PAGE = re.compile(r"/tasks/[0-9a-f]{32}/$")


@pytest.fixture
def content() -> bytes:
    """What nobody has stored before."""
    return uuid4().hex.encode()


def a_spec(**changes: object) -> str:
    """A task.json."""
    spec = {"image": IMAGE, "args": ["cat", "in/a.txt"], "files": {"in": None}, "limits": {"memory": "64M"}}
    return json.dumps({**spec, **changes})


def a_folder(at: Path, content: bytes, **changes: object) -> Path:
    """A task folder called week3."""
    folder = at / "week3"
    (folder / "in").mkdir(parents=True)
    (folder / "task.json").write_text(a_spec(**changes))
    (folder / "in" / "a.txt").write_bytes(content)
    (folder / "notes.md").write_text("for myself")
    return folder


def a_zip(content: bytes) -> bytes:
    """The same, packed with its folder."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("week3/task.json", a_spec())
        archive.writestr("week3/in/a.txt", content)
    return out.getvalue()


def a_tar(content: bytes, mode: str) -> bytes:
    """The same as a tar."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=f"w:{mode}") as archive:  # type: ignore[call-overload]
        for name, data in (("./task.json", a_spec().encode()), ("./in/a.txt", content)):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def a_file(name: str, content: bytes) -> FilePayload:
    """A file to choose."""
    return {"name": name, "mimeType": "application/octet-stream", "buffer": content}


def uploads_of(page: Page) -> list[str]:
    """The contents that the page sends from now on."""
    sent: list[str] = []
    page.on("request", lambda one: sent.append(one.url) if one.method == "PUT" else None)
    return sent


def sent_and_printed(page: Page, world: World) -> str:
    """What the task printed that the page has just submitted."""
    page.get_by_role("button", name="Submit", exact=True).click()
    page.wait_for_url(TASK_PAGE)
    task = world.people[ADA].client.get(page.url.rstrip("/").rpartition("/")[2])
    result = task.wait(120)
    assert result.verdict == "succeeded", result.reason
    return "".join(task.logs())


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_a_folder_is_checked_sent_and_the_second_time_not_sent_again(
    visits: Visits, world: World, tmp_path: Path, content: bytes, size: tuple[int, int]
) -> None:
    page = visits(ADA, size=size).go("/submit/")
    sent = uploads_of(page)
    folder = a_folder(tmp_path, content)
    page.locator("#id_folder").set_input_files(folder)
    preview = page.locator("#preview")
    expect(preview).to_have_text("1 file, 32B, 0 already stored, 1 not named in the task")
    expect(page.locator("#id_args")).to_have_value("cat in/a.txt")
    expect(page.locator("#same-shell")).to_have_text("grid submit week3")
    assert overflow(page) == []
    assert sent_and_printed(page, world) == content.decode()
    assert len(sent) == 1
    page.goto(f"{world.server}/submit/")
    page.locator("#id_folder").set_input_files(folder)
    expect(preview).to_contain_text("1 already stored")
    expect(page.locator("#usual-limits\\.memory")).to_contain_text("used")
    page.locator("#id_limits\\.memory").fill("48M")
    expect(page.locator("#same-shell")).to_have_text("grid submit week3 --memory 48M")
    assert sent_and_printed(page, world) == content.decode()
    assert len(sent) == 1


@pytest.mark.parametrize("kind", ["zip", "gz", ""])
def test_archives_are_looked_into_by_the_browser(visits: Visits, world: World, content: bytes, kind: str) -> None:
    data = a_zip(content) if kind == "zip" else a_tar(content, kind)
    name = {"zip": "week3.zip", "gz": "week3.tar.gz"}.get(kind, "week3.tar")
    page = visits(ADA).go("/submit/")
    sent = uploads_of(page)
    page.locator("#id_archive").set_input_files(a_file(name, data))
    expect(page.locator("#preview")).to_have_text("1 file, 32B, 0 already stored")
    assert sent_and_printed(page, world) == content.decode()
    assert len(sent) == 1
    assert page.get_by_role("heading", name="week3").is_visible()


def test_an_archive_that_only_the_server_can_read_is_sent_as_it_is(
    visits: Visits, world: World, content: bytes
) -> None:
    page = visits(ADA).go("/submit/")
    sent = uploads_of(page)
    page.locator("#id_archive").set_input_files(a_file("week3.tar.xz", a_tar(content, "xz")))
    expect(page.locator("#preview")).to_contain_text("the server unpacks it")
    assert sent_and_printed(page, world) == content.decode()
    assert sent == []


def test_files_are_dropped_on_the_page(visits: Visits, world: World, content: bytes) -> None:
    page = visits(ADA).go("/submit/")
    dropped = page.evaluate_handle(
        """([spec, text]) => {
          const data = new DataTransfer();
          data.items.add(new File([spec], "task.json"));
          data.items.add(new File([text], "a.txt"));
          return data;
        }""",
        [a_spec(args=["cat", "a.txt"], files={"a.txt": None}), content.decode()],
    )
    page.dispatch_event("#drop", "dragenter", {"dataTransfer": dropped})
    expect(page.locator("html")).to_have_class(re.compile("dropping"))
    page.dispatch_event("#drop", "drop", {"dataTransfer": dropped})
    expect(page.locator("#preview")).to_contain_text("1 file, 32B, 0 already stored")
    assert sent_and_printed(page, world) == content.decode()


def _place_of_submit(page: Page) -> object:
    page.evaluate("scrollTo(0, 0)")
    return page.locator("#send").bounding_box()


def test_what_is_wrong_is_said_beside_its_field_while_one_types(visits: Visits) -> None:
    page = visits(ADA).go("/submit/")
    expect(page.locator("#faults")).to_be_hidden()
    place = _place_of_submit(page)
    page.locator("#id_image").fill(IMAGE)
    page.locator("#id_limits\\.memory").fill("64X")
    wrong = page.locator("#fault-limits\\.memory")
    expect(wrong).to_contain_text("is not a size; write 64M")
    expect(page.locator("#id_limits\\.memory")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#faults")).to_contain_text("1 thing to mend")
    # What is said must not move the button under a pointer that is on its way there.
    assert _place_of_submit(page) == place
    page.locator("#id_limits\\.memory").fill("64M")
    page.get_by_text("Where and when").click()
    page.locator("#id_requires").fill("gpu:none")
    expect(page.locator("#faults")).to_contain_text("no node of this grid can ever run it")
    page.locator("#id_requires").fill("")
    expect(page.locator("#faults")).to_be_hidden()
    page.get_by_text("All of it as JSON", exact=True).click()
    expect(page.locator("#id_spec")).to_have_value(re.compile('"memory": "64M"'))
    page.locator("#id_spec").fill(a_spec(priority=7, files={}))
    expect(page.locator("#id_priority")).to_have_value("7")
    expect(page.locator("#id_args")).to_have_value("cat in/a.txt")


def test_a_double_click_makes_one_task(visits: Visits, world: World, content: bytes) -> None:
    page = visits(ADA).go("/submit/")
    page.locator("#id_image").fill(IMAGE)
    page.locator("#id_args").fill("true")
    page.locator("#id_name").fill(content.decode())
    page.get_by_role("button", name="Submit", exact=True).dblclick()
    page.wait_for_url(TASK_PAGE)
    assert len(world.people[ADA].client.list_tasks(text=content.decode())) == 1


def test_a_broken_upload_goes_on_where_it_was(visits: Visits, world: World, content: bytes) -> None:
    seen = visits(ADA)
    page = seen.go("/submit/")
    inputs = [(f"{number}.txt", content + str(number).encode()) for number in range(8)]
    page.locator("#id_inputs").set_input_files([a_file(name, data) for name, data in inputs])
    page.locator("#id_image").fill(IMAGE)
    page.locator("#id_args").fill("sh -c 'cat *.txt'")
    expect(page.locator("#preview")).to_contain_text("8 files, 264B, 0 already stored")
    arrived: list[str] = []

    def breaking(route: Route) -> None:
        arrived.append(route.request.url)
        if len(arrived) == 5:
            route.abort("connectionreset")
        else:
            route.continue_()

    page.route("**/api/v1/blobs/*", breaking)
    page.get_by_role("button", name="Submit", exact=True).click()
    expect(page.locator("#telling")).to_contain_text("the connection broke")
    seen.faults.clear()  # the browser writes that the connection broke, as it should
    page.unroute("**/api/v1/blobs/*")
    again = uploads_of(page)
    assert sent_and_printed(page, world) == "".join(data.decode() for _, data in inputs)
    assert 1 <= len(again) <= 4
    assert not set(again) & set(arrived[:2])


def test_an_upload_is_stopped_and_begun_again(visits: Visits, world: World, content: bytes) -> None:
    seen = visits(ADA)
    page = seen.go("/submit/")
    page.locator("#id_inputs").set_input_files(a_file("a.txt", content))
    page.locator("#id_image").fill(IMAGE)
    page.locator("#id_args").fill("cat a.txt")
    expect(page.locator("#preview")).to_contain_text("0 already stored")
    page.route("**/api/v1/blobs/*", lambda route: None)  # nothing moves
    page.get_by_role("button", name="Submit", exact=True).click()
    expect(page.locator("#progress")).to_be_visible()
    page.get_by_role("button", name="Stop sending").click()
    expect(page.locator("#telling")).to_contain_text("Not submitted: stopped")
    page.unroute("**/api/v1/blobs/*")
    assert sent_and_printed(page, world) == content.decode()


def test_a_task_is_run_again_with_changes_and_another_file(visits: Visits, world: World, content: bytes) -> None:
    page = visits(ADA).go("/tasks/{succeeded}/")
    page.get_by_role("link", name="Run again with changes").click()
    expect(page.get_by_role("heading", name="Run it again, with changes")).to_be_visible()
    expect(page.locator("#id_image")).to_have_value(IMAGE)
    page.locator("#id_args").fill(f"echo {content.decode()}")
    page.locator("#id_collect").fill("")
    page.locator("#id_inputs").set_input_files(a_file("new.txt", content))
    expect(page.locator("#preview")).to_contain_text("1 file, 32B, 0 already stored")
    expect(page.locator("#faults")).to_be_hidden()
    page.get_by_role("button", name="Submit as a new task").click()
    page.wait_for_url(TASK_PAGE)
    assert world.tasks["succeeded"] not in page.url
    task = world.people[ADA].client.get(page.url.rstrip("/").rpartition("/")[2])
    assert task.wait(120).verdict == "succeeded"
    assert "".join(task.logs()).strip() == content.decode()
    assert sorted(world.people[ADA].client.spec(task.id)["files"]) == ["in/plot.png", "in/report.html", "new.txt"]


def test_without_scripts_the_fields_and_files_are_enough(visits: Visits, world: World, tmp_path: Path) -> None:
    seen = visits(ADA, java_script_enabled=False)
    page = seen.go("/submit/")
    text = uuid4().hex
    (tmp_path / "a.txt").write_text(text)
    page.locator("#id_image").fill(IMAGE)
    page.locator("#id_args").fill("cat 'a.txt")
    page.get_by_role("button", name="Submit", exact=True).click()
    expect(page.locator("#fault-args")).to_contain_text("close every quotation mark")
    expect(page.locator("#id_image")).to_have_value(IMAGE)
    seen.faults.clear()  # the browser writes the status of the refusal
    page.locator("#id_args").fill("cat a.txt")
    page.locator("#id_inputs").set_input_files(tmp_path / "a.txt")
    assert sent_and_printed(page, world) == text


def test_the_keyboard_is_enough(visits: Visits, content: bytes) -> None:
    page = visits(ADA).go("/submit/")
    page.locator("#id_image").focus()
    page.keyboard.type(IMAGE)
    page.keyboard.press("Tab")
    page.keyboard.type(content.decode())
    page.keyboard.press("Tab")
    page.keyboard.type("true")
    page.keyboard.press("Enter")
    page.wait_for_url(TASK_PAGE)
    expect(page.get_by_role("heading", name=content.decode())).to_be_visible()


def test_what_is_large_is_hashed_part_by_part(visits: Visits, world: World, tmp_path: Path) -> None:
    """Over the size that browsers hash at once: the hash must be that which the server finds."""
    (tmp_path / "large.bin").write_bytes(uuid4().bytes * (700 * 1024))
    page = visits(ADA).go("/submit/")
    page.locator("#id_inputs").set_input_files(tmp_path / "large.bin")
    page.locator("#id_image").fill(IMAGE)
    page.locator("#id_args").fill("wc -c large.bin")
    expect(page.locator("#preview")).to_contain_text("1 file, 10.9M, 0 already stored")
    assert sent_and_printed(page, world).split()[0] == str(16 * 700 * 1024)


def test_the_command_line_says_the_same_before_a_submit(world: World, tmp_path: Path, content: bytes) -> None:
    folder = a_folder(tmp_path, content)
    told, refused = (_dry_run(world, folder, *more) for more in ((), ("--memory", "64X")))
    assert (told.returncode, "1 file would be sent" in told.stderr) == (0, True)
    assert (refused.returncode, "is not a size" in refused.stderr) == (2, True)


def _dry_run(world: World, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from grid.cli import main; main()", "submit", str(folder), "--dry-run", *more]
    environment = world.grid.client_environment
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

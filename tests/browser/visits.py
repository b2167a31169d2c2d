"""Chromium as the tests use it: pages that somebody visits, and everything that goes wrong on them by itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Dialog, Page, Request

from tests.browser.world import World

PROGRAM = "/usr/bin/chromium"
OPTIONS = ("--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update")
WIDE, NARROW = (1280, 900), (390, 844)
PATIENCE_MS = 30_000
_AXE = Axe()
_GRAVE = ("serious", "critical")
_TOO_WIDE = """() => {
  const whole = document.scrollingElement.scrollWidth, room = innerWidth;
  if (whole <= room) return [];
  const wide = [...document.body.querySelectorAll("*")].filter((one) => one.getBoundingClientRect().right > room + 1);
  return [`${whole} > ${room}`, ...wide.slice(0, 5).map((one) => one.outerHTML.slice(0, 120))];
}"""


@dataclass
class Visitor:
    """Somebody at a browser window of their own; ``faults`` is what the browser complained of while they were there."""

    world: World
    context: BrowserContext
    page: Page
    faults: list[str] = field(default_factory=list)

    def go(self, address: str) -> Page:
        """Open an address of the server; ``{name}`` in it stands for the id of that task, or for the node."""
        self.page.goto(self.world.server + self.address(address), wait_until="load")
        return self.page

    def address(self, address: str) -> str:
        """The address with what stands for its ``{name}``."""
        return address.format(**self.world.tasks, node=self.world.node)

    def forgive(self, status: int) -> None:
        """Forget that the browser wrote of an answer with this status, which was wanted."""
        self.faults[:] = [fault for fault in self.faults if f"status of {status}" not in fault]

    def heard(self, message: ConsoleMessage) -> None:
        """Note what the browser writes on its console as an error, such as violations of the policy."""
        if message.type == "error":
            self.faults.append(f"{message.location.get('url', '')}: {message.text}")

    def opened(self, dialog: Dialog) -> None:
        """Note that a script opened a dialog, and close it."""
        self.faults.append(f"a dialog: {dialog.message}")
        dialog.dismiss()

    def asked(self, request: Request) -> None:
        """Note what the browser wants from elsewhere."""
        if not request.url.startswith((self.world.server, "data:", "blob:")):
            self.faults.append(f"asked {request.url}")


def visitor(browser: Browser, world: World, who: str = "", **options: Any) -> Visitor:
    """A window of ``who`` (nobody without a name); ``options`` are Playwright's of a context."""
    width, height = options.pop("size", WIDE)
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    context.set_default_timeout(PATIENCE_MS)
    if who:
        cookies = world.people[who].cookies
        context.add_cookies([{"name": name, "value": value, "url": world.server} for name, value in cookies.items()])
    one = Visitor(world, context, context.new_page())
    context.on("console", one.heard)
    context.on("dialog", one.opened)
    context.on("weberror", lambda error: one.faults.append(f"a script broke: {error.error}"))
    context.on("request", one.asked)
    return one


def overflow(page: Page) -> list[str]:
    """What is wider than the window, when the whole page is; at best nothing."""
    found: list[str] = page.evaluate(_TOO_WIDE)
    return found


def hardships(page: Page) -> list[str]:
    """What axe-core finds on the page that would keep somebody from using it."""
    found = _AXE.run(page).response["violations"]
    return [
        f"{one['id']} ({one['impact']}): {node['html'][:200]} {node.get('failureSummary', '')}"
        for one in found
        if one["impact"] in _GRAVE
        for node in one["nodes"]
    ]

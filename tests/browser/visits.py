"""Chromium as the tests use it: pages that somebody visits, and everything that goes wrong on them by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Dialog, Page, Request

from tests.browser.world import World

PROGRAM = "/usr/bin/chromium"
OPTIONS = ("--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update")
COLOURS = ("color-contrast", "link-in-text-block")
"""The rules of axe-core that look at colours; the others find the same in light and in dark."""
WIDE, NARROW = (1280, 900), (390, 844)
PATIENCE_MS = 30_000
_GRAVE = ("serious", "critical")
# The script is sent to a page once; of what it finds only the faults come back.
_AXE = """async (rules) => {
  const only = rules.length ? { runOnly: { type: "rule", values: rules } } : {};
  return (await axe.run(document, { resultTypes: ["violations"], ...only })).violations;
}"""
_FORGET = "() => { try { localStorage.clear(); sessionStorage.clear(); } catch { /* a page without an address */ } }"
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
    who: str
    context: BrowserContext
    page: Page
    faults: list[str] = field(default_factory=list)

    def arrive(self, size: tuple[int, int], color_scheme: Literal["light", "dark"]) -> None:
        """Come with what one knows when one begins: the session, and nothing of pages visited before."""
        self.faults = []
        self.context.clear_cookies()
        cookies = self.world.people[self.who].cookies if self.who else {}
        server = self.world.server
        self.context.add_cookies([{"name": name, "value": value, "url": server} for name, value in cookies.items()])
        self.page.set_viewport_size({"width": size[0], "height": size[1]})
        self.page.emulate_media(color_scheme=color_scheme)

    def leave(self) -> None:
        """Leave the page and forget what it kept, so that somebody can begin in this window anew."""
        self.page.evaluate(_FORGET)
        self.page.goto("about:blank")

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

    def forget_others(self) -> None:
        """Forget what the browser wrote of pages of others, on which it was on purpose."""
        ours = (self.world.server, "a dialog", "a script broke")
        self.faults[:] = [fault for fault in self.faults if fault.startswith(ours)]

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


def visitor(browser: Browser, world: World, who: str = "", *, java_script_enabled: bool = True) -> Visitor:
    """A window of ``who`` (nobody without a name)."""
    context = browser.new_context(java_script_enabled=java_script_enabled)
    context.set_default_timeout(PATIENCE_MS)
    one = Visitor(world, who, context, context.new_page())
    context.on("console", one.heard)
    context.on("dialog", one.opened)
    context.on("weberror", lambda error: one.faults.append(f"a script broke: {error.error}"))
    context.on("request", one.asked)
    return one


def overflow(page: Page) -> list[str]:
    """What is wider than the window, when the whole page is; at best nothing."""
    found: list[str] = page.evaluate(_TOO_WIDE)
    return found


def hardships(page: Page, rules: Sequence[str] = ()) -> list[str]:
    """What axe-core finds on the page that would keep somebody from using it, by these rules or all that it has."""
    if not page.evaluate("() => Boolean(window.axe)"):
        page.evaluate(f"() => {{ {AXE_SCRIPT} }}")
    found: list[dict[str, Any]] = page.evaluate(_AXE, list(rules))
    return [
        f"{one['id']} ({one['impact']}): {node['html'][:200]} {node.get('failureSummary', '')}"
        for one in found
        if one["impact"] in _GRAVE
        for node in one["nodes"]
    ]

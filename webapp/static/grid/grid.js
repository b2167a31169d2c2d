// Live parts of pages that work without them: lists and tasks follow the event stream.
"use strict";

const PAUSE_MS = 400;

function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

// Fetch this page again and put its live parts in place of the old ones, except where somebody is at work.
async function refresh() {
  const address = location.href;
  const answer = await fetch(address, { headers: { Accept: "text/html" } });
  if (!answer.ok || answer.redirected) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  // Meanwhile somebody chose another filter: this answer is to an older question.
  if (address !== location.href) return;
  for (const old of document.querySelectorAll("[data-live]")) {
    const next = fresh.getElementById(old.id);
    if (next && !old.contains(document.activeElement) && old.outerHTML !== next.outerHTML) {
      old.replaceWith(next);
      if (window.htmx) window.htmx.process(next);
    }
  }
}

// However many events come, the page is fetched one at a time and no more often than every PAUSE_MS.
let wanted = false;
let busy = false;
async function refreshSoon() {
  wanted = true;
  if (busy) return;
  busy = true;
  while (wanted) {
    await sleep(PAUSE_MS);
    if (document.hidden) break;
    wanted = false;
    await refresh().catch(() => {});
  }
  busy = false;
}

// Browsers open six connections to a server at most: pages that nobody sees hold none of them.
function followEvents(address) {
  let source = null;
  const listen = () => {
    if (source) source.close();
    source = null;
    if (document.hidden) return;
    source = new EventSource(address);
    source.onmessage = refreshSoon;
  };
  listen();
  addEventListener("pagehide", () => source && source.close());
  document.addEventListener("visibilitychange", () => { listen(); if (!document.hidden) refreshSoon(); });
}

function seen() {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
}

if (document.body.dataset.events) followEvents(document.body.dataset.events);
const seconds = Number(document.body.dataset.refreshSeconds);
if (seconds) setInterval(refreshSoon, seconds * 1000);

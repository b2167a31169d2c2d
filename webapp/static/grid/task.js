// The page of a task: its output goes on as it grows, earlier parts come on demand, lines to copy get their buttons.
"use strict";

document.documentElement.classList.add("js");

// ------------------------------------------------------------------------------------------------------------ copying
async function copyText(text) {
  // Pages from plain HTTP have no clipboard.
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const field = document.createElement("textarea");
  field.value = text;
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button.copy");
  if (!button) return;
  await copyText(button.previousElementSibling.textContent).catch(() => {});
  button.textContent = "Copied";
  await sleep(1500);
  button.textContent = "Copy";
});

// ------------------------------------------------------------------------------------------------------------- output
const MOST_SHOWN = 1024 * 1024;
const MOST_BEHIND = 4 * 1024 * 1024;
const PART = 64 * 1024;

class Output {
  constructor(log) {
    this.log = log;
    this.url = log.dataset.url;
    this.start = Number(log.dataset.start);
    this.offset = Number(log.dataset.offset);
    this.attempt = log.dataset.attempt;
    this.decoder = new TextDecoder();
    this.note = document.getElementById("log-note");
    this.follow = document.getElementById("log-follow");
    this.earlier = document.getElementById("log-earlier");
    if (this.earlier) this.earlier.addEventListener("click", (event) => this.loadEarlier(event));
    if (this.follow) this.follow.addEventListener("change", () => this.toEnd());
    // Who scrolls up wants to read; who comes back to the end wants to follow.
    log.addEventListener("scroll", () => {
      if (this.follow) this.follow.checked = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    });
  }

  toEnd() {
    if (!this.follow || this.follow.checked) this.log.scrollTop = this.log.scrollHeight;
  }

  add(text) {
    if (!text) return;
    const following = !this.follow || this.follow.checked;
    this.log.append(text);
    // Somebody who reads in the middle keeps what he reads; at the end, the oldest goes.
    if (following && this.log.textContent.length > MOST_SHOWN) {
      const all = this.log.textContent;
      const kept = all.slice(-MOST_SHOWN / 2);
      this.start += new TextEncoder().encode(all.slice(0, all.length - kept.length)).length;
      this.log.textContent = kept;
      if (this.earlier) this.earlier.hidden = false;
    }
    if (following) this.log.scrollTop = this.log.scrollHeight;
  }

  mark(words) {
    const line = document.createElement("span");
    line.className = "mark";
    line.textContent = words;
    this.log.append(line);
    this.decoder = new TextDecoder();
    // What lies before it belongs to another log, or was left out.
    if (this.earlier) this.earlier.hidden = true;
  }

  async loadEarlier(event) {
    event.preventDefault();
    const from = Math.max(0, this.start - PART);
    const address = `${this.url}?offset=${from}&limit=${this.start - from}`;
    const answer = await fetch(address).catch(() => null);
    if (answer === null || !answer.ok || answer.headers.get("Grid-Log-Attempt") !== this.attempt) {
      location.href = this.earlier.href;
      return;
    }
    let bytes = new Uint8Array(await answer.arrayBuffer());
    // Begin at a line, if one begins near.
    const line = from ? bytes.subarray(0, 4096).indexOf(10) + 1 : 0;
    bytes = bytes.subarray(line);
    const height = this.log.scrollHeight;
    this.log.prepend(new TextDecoder().decode(bytes));
    this.log.scrollTop += this.log.scrollHeight - height;
    this.start = from + line;
    if (!this.start) this.earlier.hidden = true;
  }

  async goOn() {
    for (;;) {
      await seen();
      const answer = await fetch(`${this.url}?offset=${this.offset}&wait=25`).catch(() => null);
      if (answer === null || answer.status >= 500) { await sleep(2000); continue; }
      if (!answer.ok) return;
      const current = answer.headers.get("Grid-Log-Attempt");
      if (current !== this.attempt) {
        // The task is tried again, perhaps since its node was lost: the new attempt's output begins at its own start.
        if (this.attempt) this.mark("The attempt ended; here begins the output of the next one");
        this.attempt = current;
        if (this.offset) { this.offset = 0; continue; }
      }
      const size = Number(answer.headers.get("Grid-Log-Size"));
      const bytes = await answer.arrayBuffer();
      this.offset += bytes.byteLength;
      this.add(this.decoder.decode(bytes, { stream: true }));
      if (bytes.byteLength && this.note) this.note.textContent = "";
      if (size - this.offset > MOST_BEHIND) {
        const skipped = Math.floor((size - this.offset - PART) / 1048576);
        this.offset = size - PART;
        this.mark(`${skipped}M came too fast to be shown; they are in the download`);
      }
      if (answer.headers.get("Grid-Log-Complete") === "true") {
        if (this.note) this.note.textContent = this.log.textContent ? "" : "It printed nothing.";
        return;
      }
      if (bytes.byteLength === 0) await sleep(200);
    }
  }
}

const log = document.getElementById("log");
if (log) {
  const output = new Output(log);
  const hit = document.getElementById("hit");
  if (hit) hit.scrollIntoView({ block: "center" });
  else if ("tail" in log.dataset) output.toEnd();
  if (!("complete" in log.dataset)) output.goOn();
}

// Sends what is not stored yet, then the description; what broke off goes on where it was.
import { check, checkNoMore, checkSoon, said } from "./check.js";
import { showProblems, touched } from "./fields.js";
import { hashAll } from "./hashing.js";
import { showFiles } from "./list.js";
import { at, count, form, size, state, tell } from "./page.js";

const AT_ONCE = 3;
let stopping = null;

class Refusal extends Error {}

function send(method, address, body, headers, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, address);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => onProgress && onProgress(event.loaded);
    request.onload = () => resolve(request);
    request.onerror = () => reject(new Error("the connection broke"));
    request.onabort = () => reject(new Error("stopped"));
    const stop = () => request.abort();
    stopping.signal.addEventListener("abort", stop);
    request.onloadend = () => stopping && stopping.signal.removeEventListener("abort", stop);
    if (stopping.signal.aborted) { reject(new Error("stopped")); return; }
    request.send(body);
  });
}

const answered = (request) => { try { return JSON.parse(request.responseText); } catch { return {}; } };

const token = () => ({ "X-CSRFToken": form.elements.csrfmiddlewaretoken.value, Accept: "application/json" });

function refuse(request) {
  const body = answered(request);
  const problems = body.problems || (body.faults || []).map((one) => ({ ...one, field: "" }));
  if (problems.length) { showProblems(problems); throw new Refusal("It was not taken; what is to be mended stands above."); }
  if (request.status === 401 || request.status === 403) throw new Refusal(body.detail || "You are logged out, or may not do this. Log in in another tab and press Submit again.");
  throw new Refusal(body.detail || `The server refused it (${request.status}).`);
}

function progress(done, total, words) {
  at("progress").hidden = false;
  at("whole-progress").value = total ? Math.floor(100 * done / total) : 100;
  at("progress-words").textContent = words;
}

async function sendFiles() {
  const wanted = new Map();
  for (const file of state.files.values()) if (state.taken.has(file.path) && state.missing.has(file.sha256)) wanted.set(file.sha256, file);
  const queue = [...wanted.values()], total = queue.reduce((sum, file) => sum + file.size, 0), sent = new Map();
  const tellProgress = () => {
    const done = [...sent.values()].reduce((sum, bytes) => sum + bytes, 0);
    progress(done, total, `Sending ${count(queue.length, "file")}: ${size(done)} of ${size(total)}`);
  };
  const todo = [...queue];
  const work = async () => {
    for (let file = todo.shift(); file; file = todo.shift()) {
      file.bar = Object.assign(document.createElement("progress"), { max: Math.max(1, file.size), value: 0 });
      file.bar.setAttribute("aria-label", file.path);
      file.state = "sending";
      showFiles();
      try {
        const headers = { ...token(), "Content-Type": "application/octet-stream" };
        const request = await send("PUT", `/api/v1/blobs/${file.sha256}`, file.blob || await file.content(), headers, (bytes) => {
          sent.set(file.sha256, bytes);
          file.bar.value = bytes;
          tellProgress();
        });
        if (request.status !== 201) refuse(request);
        sent.set(file.sha256, file.size);
        state.missing.delete(file.sha256);
        tellProgress();
      } finally {
        file.bar = null;
        file.state = "";
        showFiles();
      }
    }
  };
  tellProgress();
  // All are waited for: what was under way when one failed must not go on behind the words about it.
  const ends = await Promise.allSettled(Array.from({ length: Math.min(AT_ONCE, queue.length) }, work));
  const failed = ends.find((end) => end.status === "rejected");
  if (failed) throw failed.reason;
}

async function sendWhole() {
  // An archive that only the server can read.
  const data = said({ key: form.elements.key.value });
  data.delete("listed");
  data.delete("whole");
  data.append("archive", state.whole, state.whole.name);
  const sentBytes = (bytes) => progress(bytes, state.whole.size, `Sending ${state.whole.name}: ${size(Math.min(bytes, state.whole.size))} of ${size(state.whole.size)}`);
  return send("POST", location.pathname, data, { Accept: "application/json" }, sentBytes);
}

async function submitted() {
  if (!state.whole) {
    progress(0, 1, "Looking at the files");
    await hashAll();
    if ([...state.files.values()].some((file) => file.broken)) throw new Refusal("Not all files can be read; choose them again.");
    const found = await check();
    if (!found) throw new Error("the server does not answer");
    if (found.problems.length) throw new Refusal("Nothing was sent; what is to be mended stands above.");
    await sendFiles();
  }
  progress(1, 1, "Submitting");
  const request = state.whole ? await sendWhole() : await send("POST", location.pathname, said({ key: form.elements.key.value }), { Accept: "application/json" });
  if (request.status === 409) newKey();
  if (request.status !== 201) refuse(request);
  location.assign(answered(request).location);
}

// A key stands for one description; another one needs another.
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  form.elements.key.value = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function sendWhenAsked() {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (state.busy) return;
    if (!state.whole && !touched()) { state.edited.add("image"); checkSoon(0); return; }
    state.busy = true;
    checkNoMore();
    stopping = new AbortController();
    at("send").disabled = true;
    at("stop").hidden = false;
    at("forget").hidden = true;
    tell("");
    try {
      await submitted();
      tell("It was taken; its page opens.");
      return;
    } catch (error) {
      const again = "What has arrived is kept: press Submit again to go on.";
      tell(error instanceof Refusal ? error.message : `Not submitted: ${error.message}. ${again}`, true);
      if (!at("faults").hidden) at("faults").focus();
    }
    state.busy = false;
    at("send").disabled = false;
    at("progress").hidden = true;
    at("stop").hidden = true;
    showFiles();
  });
  at("stop").addEventListener("click", () => stopping && stopping.abort());
}

// Who comes back to the page by the browser's button may submit once more: that is another task.
export function beginAnew() {
  newKey();
  state.busy = false;
  at("send").disabled = false;
  at("stop").hidden = true;
  at("progress").hidden = true;
  tell("");
}

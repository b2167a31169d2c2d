// The page that takes tasks: files by dropping, checks while one types, and nothing is sent that is stored already.
"use strict";

(() => {
  const form = document.getElementById("submit");
  if (!form) return;
  document.documentElement.classList.add("js");
  const at = (id) => document.getElementById(id);
  const SPECS = ["task.json", "kolejka_task.json"];
  const PAUSE_MS = 350, MOST_SHOWN = 200, AT_ONCE = 3;

  // Everything that was chosen, by its path: {path, size, executable, content(), sha256, state, bar}.
  let files = new Map();
  let folderName = "", base = "", whole = null, missing = new Set(), taken = new Set();
  let busy = false, stopping = null, asked = 0, timer = 0, edited = new Set();
  const remembered = new Map();  // hash by (name, size, time), so that choosing the same again costs nothing

  // ----------------------------------------------------------------------------------------------------------- words
  function size(bytes) {
    let unit = 0;
    for (; bytes >= 1024 && unit < 5; unit++) bytes /= 1024;
    return `${unit && bytes < 100 ? bytes.toFixed(1).replace(".0", "") : Math.round(bytes)}${["B", "K", "M", "G", "T", "P"][unit]}`;
  }
  const count = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;
  const element = (tag, text, name) => Object.assign(document.createElement(tag), { textContent: text || "", className: name || "" });
  function tell(words, bad) {
    at("telling").textContent = words;
    at("telling").classList.toggle("bad", Boolean(bad));
  }

  // ---------------------------------------------------------------------------------------------------------- fields
  const field = (name) => at(`id_${name}`);
  const fieldNames = () => [...form.querySelectorAll("[data-field]")].map((one) => one.dataset.field);

  function put(name, text) {
    let input = field(name);
    if (!input && name === "other") {
      // Keys that are not known have a field only when there are some.
      const box = element("div", "", "field wide");
      box.dataset.field = "other";
      const label = element("label", "Other keys");
      label.htmlFor = "id_other";
      input = Object.assign(document.createElement("textarea"), { id: "id_other", name: "other", rows: 3 });
      box.append(label, input, Object.assign(element("p", "", "wrong"), { id: "fault-other" }));
      form.querySelector(".group .fields").append(box);
    }
    if (!input) return;
    if (input.tagName === "INPUT" && text.includes("\n")) {
      const area = document.createElement("textarea");
      for (const one of input.attributes) if (!["value", "type", "list"].includes(one.name)) area.setAttribute(one.name, one.value);
      input.replaceWith(area);
      area.closest(".field").classList.add("wide");
      input = area;
    }
    if (input.tagName === "TEXTAREA") input.rows = Math.max(2, Math.min(12, text.split("\n").length));
    input.value = text;
    const group = input.closest("details");
    if (text && group) group.open = true;
  }

  function fill(texts) {
    for (const name of new Set([...fieldNames(), ...Object.keys(texts)])) {
      if (!edited.has(name)) put(name, texts[name] || "");
    }
  }

  function showProblems(problems) {
    for (const one of form.querySelectorAll("[aria-invalid]")) one.removeAttribute("aria-invalid");
    for (const one of form.querySelectorAll(".wrong")) one.textContent = "";
    const list = at("faults").querySelector("ul");
    list.replaceChildren();
    for (const one of problems) {
      const words = one.message + (one.hint ? `; ${one.hint}` : "");
      const input = one.field && field(one.field);
      const line = element("li");
      if (one.path) {
        const code = element("code", one.path);
        const link = input ? Object.assign(document.createElement("a"), { href: `#${input.id}` }) : null;
        if (link) { link.append(code); line.append(link, " "); } else line.append(code, " ");
      }
      line.append(words);
      list.append(line);
      if (!input) continue;
      input.setAttribute("aria-invalid", "true");
      const beside = at(`fault-${one.field}`);
      const where = one.path === one.field ? "" : `${one.path} `;
      if (beside) beside.textContent = (beside.textContent ? `${beside.textContent} ` : "") + where + words;
      const group = input.closest("details");
      if (group) group.open = true;
    }
    at("faults-title").textContent = `${count(problems.length, "thing")} to mend`;
    at("faults").hidden = problems.length === 0;
  }

  function showUsual(usual) {
    for (const one of form.querySelectorAll(".usual")) {
      const found = usual[one.id.replace("usual-", "")];
      if ((found ? found.words : "") === (one.dataset.words || "")) continue;
      one.dataset.words = found ? found.words : "";
      one.textContent = found ? found.words : "";
      if (!found || !found.suggested) continue;
      const button = element("button", `Take ${found.suggested}`);
      button.type = "button";
      button.addEventListener("click", () => {
        const name = one.id.replace("usual-", "");
        put(name, found.suggested);
        edited.add(name);
        checkSoon(0);
        field(name).focus();
      });
      one.append(button);
    }
  }

  // ----------------------------------------------------------------------------------------------------------- check
  function said(more) {
    const data = new FormData();
    for (const name of fieldNames()) if (field(name).value.trim()) data.append(name, field(name).value);
    data.append("csrfmiddlewaretoken", form.elements.csrfmiddlewaretoken.value);
    data.append("whole", "1");
    data.append("folder_name", folderName);
    data.append("listed", JSON.stringify([...files.values()].map(({ path, size, sha256, executable }) => ({ path, size, sha256: sha256 || "", executable: Boolean(executable) }))));
    for (const [name, value] of Object.entries(more || {})) data.append(name, value);
    return data;
  }

  // What the server says to what is filled in; null when it could not be asked, or when a newer question was asked.
  async function check(more) {
    const number = ++asked;
    const data = said({ base, ...(form.dataset.again ? { again: form.dataset.again } : {}), ...more });
    const answer = await fetch(form.dataset.check, { method: "POST", body: data, headers: { Accept: "application/json" } }).catch(() => null);
    if (answer && answer.redirected) { location.reload(); return null; }
    if (!answer || !answer.ok) {
      tell(answer ? "The server could not check this; reload the page if it stays so." : "The server does not answer; what you filled in stays here.", true);
      return null;
    }
    const found = await answer.json();
    if (number !== asked) return null;
    if (found.texts) { fill(found.texts); return check(); }
    if (at("telling").classList.contains("bad")) tell("");
    show(found);
    return found;
  }

  function show(found) {
    showProblems(touched() ? found.problems : []);
    showUsual(found.usual);
    taken = new Set(found.files.taken || (found.json ? [] : files.keys()));
    missing = new Set(found.files.missing || []);
    if (found.json && document.activeElement !== at("id_spec")) at("id_spec").value = touched() ? found.json : "";
    at("same").hidden = !found.same || !touched() || found.problems.length > 0;
    if (found.same) {
      at("same-shell").textContent = found.same.shell;
      at("same-python").textContent = found.same.python;
      at("same-save").hidden = !found.same.save;
    }
    showFiles();
  }

  // Nobody is told that something is missing before having begun.
  const touched = () => files.size > 0 || edited.size > 0 || fieldNames().some((name) => field(name).value.trim());

  function checkSoon(pause = PAUSE_MS, more) {
    clearTimeout(timer);
    timer = setTimeout(() => { if (!busy) check(more); }, pause);
  }

  form.addEventListener("input", (event) => {
    if (event.target.type === "file" || !event.target.name) return;
    if (event.target.name === "spec") {
      edited = new Set();
      if (event.target.value.trim()) checkSoon(2 * PAUSE_MS, { spec: event.target.value, fill: "1" });
      return;
    }
    edited.add(event.target.name);
    checkSoon();
  });

  // ----------------------------------------------------------------------------------------------------------- files
  const described = (file) => Boolean(base) && SPECS.includes(file.path) && !taken.has(file.path);
  const stateWords = (file) => described(file) ? "the description" : !taken.has(file.path) ? "not named" : file.state || (!file.sha256 ? "" : missing.has(file.sha256) ? "to send" : "stored");

  function showFiles() {
    const all = [...files.values()], used = all.filter((file) => taken.has(file.path));
    const known = used.filter((file) => file.sha256 && !missing.has(file.sha256)).length;
    const bytes = used.reduce((sum, file) => sum + file.size, 0);
    const parts = [count(used.length, "file"), size(bytes)];
    if (used.length && used.every((file) => file.sha256)) parts.push(`${known === used.length && known > 1 ? "all" : known} already stored`);
    else if (used.length) parts.push("looking at them");
    const aside = all.filter((file) => !taken.has(file.path) && !described(file)).length;
    if (aside) parts.push(`${aside} not named in the task`);
    const words = whole ? `${whole.name}, ${size(whole.size)}; the server unpacks it` : all.length ? parts.join(", ") : form.dataset.again ? "The description; its files are stored already." : touched() ? "The description alone, no files." : "Nothing was chosen yet.";
    if (at("preview").textContent !== words) at("preview").textContent = words;
    at("forget").hidden = busy || (!all.length && !whole);
    const list = at("chosen"), shown = all.slice(0, MOST_SHOWN);
    list.replaceChildren(...shown.map((file) => {
      const line = element("li", "", taken.has(file.path) || described(file) ? "" : "aside");
      line.append(element("span", file.path), element("small", [size(file.size), stateWords(file)].filter(Boolean).join(", ")));
      if (file.bar) line.append(file.bar);
      return line;
    }));
    if (all.length > shown.length) list.append(element("li", `and ${all.length - shown.length} more`));
  }

  const plain = (path) => path.split("/").filter((part) => part && part !== ".").join("/");

  // A list of {path, size, content} becomes what is sent; a folder that everything is in gives its name to the task.
  async function take(list, name, adding) {
    list = list.map((one) => ({ ...one, path: plain(one.path) })).filter((one) => !one.path.startsWith("__MACOSX/") && !one.path.endsWith(".DS_Store"));
    const tops = new Set(list.map((one) => one.path.split("/")[0]));
    if (!list.some((one) => SPECS.includes(one.path)) && tops.size === 1 && list.every((one) => one.path.includes("/"))) {
      name = [...tops][0];
      list = list.map((one) => ({ ...one, path: one.path.slice(name.length + 1) }));
    }
    if (list.length > Number(form.dataset.mostFiles)) {
      tell(`There are ${list.length} files; the most is ${form.dataset.mostFiles}. Pack them into an archive inside the task.`, true);
      return;
    }
    if (!adding) { files = new Map(); folderName = name || ""; base = ""; }
    else if (name && !folderName) folderName = name;
    whole = null;
    for (const one of list) files.set(one.path, one);
    tell("");
    const spec = SPECS.map((path) => list.find((one) => one.path === path)).find(Boolean);
    showFiles();
    if (spec) {
      base = await (await spec.content()).text();
      at("id_spec").value = base;
      await check({ spec: base, fill: "1" });
    } else await check();
    await hashAll();
  }

  function ofFile(file, path) {
    return { path: path || file.webkitRelativePath || file.name, size: file.size, stamp: `${file.name}/${file.size}/${file.lastModified}`, content: async () => file };
  }

  async function takeFiles(list) {
    if (list.length === 1 && /\.json$/i.test(list[0].name)) return take([{ ...ofFile(list[0]), path: "task.json" }], list[0].name.replace(/\.json$/i, ""), true);
    if (list.length === 1 && /\.(zip|tar|tgz|tar\.(gz|bz2|xz))$/i.test(list[0].name)) return takeArchive(list[0]);
    return take(list.map((file) => ofFile(file)), "", true);
  }

  async function takeArchive(file) {
    tell("Looking into the archive …");
    let entries = null;
    try {
      entries = await archiveEntries(file);
    } catch (error) {
      tell(`The archive cannot be read: ${error.message}`, true);
      return;
    }
    if (entries) return take(entries, file.name.split(".")[0]);
    files = new Map();
    whole = file;
    folderName = file.name.split(".")[0];
    taken = new Set();
    tell("");
    showFiles();
  }

  async function walk(entry, found, path) {
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      found.push(ofFile(file, path + entry.name));
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!part.length) return;
      for (const one of part) await walk(one, found, `${path}${entry.name}/`);
      if (found.length > Number(form.dataset.mostFiles)) return;
    }
  }

  let within = 0;
  const holdsFiles = (event) => event.dataTransfer && [...event.dataTransfer.types].includes("Files");
  addEventListener("dragenter", (event) => { if (holdsFiles(event)) { within++; document.documentElement.classList.add("dropping"); } });
  addEventListener("dragleave", () => { if (--within <= 0) { within = 0; document.documentElement.classList.remove("dropping"); } });
  addEventListener("dragover", (event) => { if (holdsFiles(event)) event.preventDefault(); });
  addEventListener("drop", async (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    within = 0;
    document.documentElement.classList.remove("dropping");
    if (busy) return;
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry && item.webkitGetAsEntry()).filter(Boolean);
    const dropped = [...event.dataTransfer.files];
    if (!entries.some((entry) => entry.isDirectory)) { await takeFiles(dropped); return; }
    const found = [];
    for (const entry of entries) await walk(entry, found, "");
    await take(found, "");
  });

  form.addEventListener("change", async (event) => {
    const input = event.target;
    if (input.type !== "file" || !input.files.length) return;
    const list = [...input.files];
    // The list keeps them; the input must not send them a second time.
    input.value = "";
    if (input.name === "folder") await take(list.map((file) => ofFile(file)), "");
    else await takeFiles(list);
  });

  at("forget").addEventListener("click", () => {
    files = new Map(); whole = null; base = ""; folderName = "";
    tell("");
    check();
  });

  // ---------------------------------------------------------------------------------------------------------- hashes
  let hashing = null;
  function hashAll() {
    if (!hashing) hashing = hashEach().finally(() => { hashing = null; });
    return hashing;
  }

  async function hashEach() {
    let worker = null;
    try {
      for (;;) {
        const file = [...files.values()].find((one) => !one.sha256 && !one.broken);
        if (!file) break;
        file.sha256 = file.stamp ? remembered.get(file.stamp) : "";
        if (file.sha256) continue;
        worker = worker || new Worker(form.dataset.hasher);
        try {
          file.sha256 = await hashOne(worker, file);
          if (file.stamp) remembered.set(file.stamp, file.sha256);
        } catch (error) {
          file.broken = true;
          file.state = "cannot be read";
          tell(`${file.path} cannot be read: ${error.message}`, true);
        }
      }
    } finally {
      if (worker) worker.terminate();
    }
    if (files.size && !busy) await check();
  }

  async function hashOne(worker, file) {
    const content = await file.content();
    file.blob = content;
    file.size = content.size;
    return new Promise((resolve, reject) => {
      worker.onmessage = ({ data }) => {
        if (data.sha256) { file.state = ""; resolve(data.sha256); }
        else if (data.error) reject(new Error(data.error));
        else { file.state = `looked at ${size(data.done)}`; showFiles(); }
      };
      worker.onerror = () => reject(new Error("the browser does not let this page work in the background"));
      worker.postMessage(content);
    });
  }

  // ----------------------------------------------------------------------------------------------------------- sends
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
    for (const file of files.values()) if (taken.has(file.path) && missing.has(file.sha256)) wanted.set(file.sha256, file);
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
          missing.delete(file.sha256);
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
    data.append("archive", whole, whole.name);
    const sentBytes = (bytes) => progress(bytes, whole.size, `Sending ${whole.name}: ${size(Math.min(bytes, whole.size))} of ${size(whole.size)}`);
    return send("POST", location.pathname, data, { Accept: "application/json" }, sentBytes);
  }

  async function submitted() {
    if (!whole) {
      progress(0, 1, "Looking at the files");
      await hashAll();
      if ([...files.values()].some((file) => file.broken)) throw new Refusal("Not all files can be read; choose them again.");
      const found = await check();
      if (!found) throw new Error("the server does not answer");
      if (found.problems.length) throw new Refusal("Nothing was sent; what is to be mended stands above.");
      await sendFiles();
    }
    progress(1, 1, "Submitting");
    const request = whole ? await sendWhole() : await send("POST", location.pathname, said({ key: form.elements.key.value }), { Accept: "application/json" });
    if (request.status === 409) newKey();
    if (request.status !== 201) refuse(request);
    location.assign(answered(request).location);
  }

  // A key stands for one description; another one needs another.
  function newKey() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    form.elements.key.value = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (busy) return;
    if (!whole && !touched()) { edited.add("image"); checkSoon(0); return; }
    busy = true;
    clearTimeout(timer);
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
    busy = false;
    at("send").disabled = false;
    at("progress").hidden = true;
    at("stop").hidden = true;
    showFiles();
  });
  at("stop").addEventListener("click", () => stopping && stopping.abort());

  // ---------------------------------------------------------------------------------------------------- small things
  form.addEventListener("click", async (event) => {
    const button = event.target.closest("button.copy");
    if (!button) return;
    const text = button.previousElementSibling;
    if (navigator.clipboard) await navigator.clipboard.writeText(text.textContent).catch(() => {});
    else getSelection().selectAllChildren(text);
    button.textContent = navigator.clipboard ? "Copied" : "Marked";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
  const example = at("example");
  if (example) {
    example.addEventListener("click", () => {
      edited = new Set();
      check({ spec: example.parentElement.querySelector("pre").textContent, fill: "1" });
      form.querySelector(".group").scrollIntoView({ block: "start" });
    });
  }
  // Who comes back to the page by the browser's button may submit once more: that is another task.
  addEventListener("pageshow", (event) => {
    if (!event.persisted) return;
    newKey();
    busy = false;
    at("send").disabled = false;
    at("stop").hidden = true;
    at("progress").hidden = true;
    tell("");
  });
  showFiles();
  if (touched()) check();
})();

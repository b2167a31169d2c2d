// Files come to the page: chosen, or dropped on it; folders, archives and descriptions among them.
import { archiveEntries } from "./archive.js";
import { check } from "./check.js";
import { hashAll } from "./hashing.js";
import { showFiles } from "./list.js";
import { SPECS, at, form, state, tell } from "./page.js";

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
  if (!adding) { state.files = new Map(); state.folderName = name || ""; state.base = ""; }
  else if (name && !state.folderName) state.folderName = name;
  state.whole = null;
  for (const one of list) state.files.set(one.path, one);
  tell("");
  const spec = SPECS.map((path) => list.find((one) => one.path === path)).find(Boolean);
  showFiles();
  if (spec) {
    state.base = await (await spec.content()).text();
    at("id_spec").value = state.base;
    await check({ spec: state.base, fill: "1" });
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
  state.files = new Map();
  state.whole = file;
  state.folderName = file.name.split(".")[0];
  state.taken = new Set();
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

export function takeWhatComes() {
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
    if (state.busy) return;
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
    state.files = new Map(); state.whole = null; state.base = ""; state.folderName = "";
    tell("");
    check();
  });
}

// What all parts of the page that takes tasks share: its form, what was chosen so far, and words.
export const form = document.getElementById("submit");
export const at = (id) => document.getElementById(id);
export const SPECS = ["task.json", "kolejka_task.json"];

// What was filled in and chosen. ``files``: by path, each {path, size, executable, content(), sha256, state, bar}.
// ``base``: the description that came with them; ``whole``: an archive that only the server can read; ``taken``: paths
// that the task names; ``missing``: hashes that are not stored yet; ``edited``: names of fields that somebody changed.
export const state = {
  files: new Map(), folderName: "", base: "", whole: null, missing: new Set(), taken: new Set(), edited: new Set(), busy: false,
};

export function size(bytes) {
  let unit = 0;
  for (; bytes >= 1024 && unit < 5; unit++) bytes /= 1024;
  return `${unit && bytes < 100 ? bytes.toFixed(1).replace(".0", "") : Math.round(bytes)}${["B", "K", "M", "G", "T", "P"][unit]}`;
}

export const count = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;

export const element = (tag, text, name) => Object.assign(document.createElement(tag), { textContent: text || "", className: name || "" });

export function tell(words, bad) {
  at("telling").textContent = words;
  at("telling").classList.toggle("bad", Boolean(bad));
}

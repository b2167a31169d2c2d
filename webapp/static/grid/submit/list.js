// Tells what is sent: one line in sum, and each file with its state.
import { touched } from "./fields.js";
import { SPECS, at, count, element, form, size, state } from "./page.js";

const MOST_SHOWN = 200;

const described = (file) => Boolean(state.base) && SPECS.includes(file.path) && !state.taken.has(file.path);

const stateWords = (file) => described(file) ? "the description" : !state.taken.has(file.path) ? "not named" : file.state || (!file.sha256 ? "" : state.missing.has(file.sha256) ? "to send" : "stored");

export function showFiles() {
  const all = [...state.files.values()], used = all.filter((file) => state.taken.has(file.path));
  const known = used.filter((file) => file.sha256 && !state.missing.has(file.sha256)).length;
  const bytes = used.reduce((sum, file) => sum + file.size, 0);
  const parts = [count(used.length, "file"), size(bytes)];
  if (used.length && used.every((file) => file.sha256)) parts.push(`${known === used.length && known > 1 ? "all" : known} already stored`);
  else if (used.length) parts.push("looking at them");
  const aside = all.filter((file) => !state.taken.has(file.path) && !described(file)).length;
  if (aside) parts.push(`${aside} not named in the task`);
  const words = state.whole ? `${state.whole.name}, ${size(state.whole.size)}; the server unpacks it` : all.length ? parts.join(", ") : form.dataset.again ? "The description; its files are stored already." : touched() ? "The description alone, no files." : "Nothing was chosen yet.";
  if (at("preview").textContent !== words) at("preview").textContent = words;
  at("forget").hidden = state.busy || (!all.length && !state.whole);
  const list = at("chosen"), shown = all.slice(0, MOST_SHOWN);
  list.replaceChildren(...shown.map((file) => {
    const line = element("li", "", state.taken.has(file.path) || described(file) ? "" : "aside");
    line.append(element("span", file.path), element("small", [size(file.size), stateWords(file)].filter(Boolean).join(", ")));
    if (file.bar) line.append(file.bar);
    return line;
  }));
  if (all.length > shown.length) list.append(element("li", `and ${all.length - shown.length} more`));
}

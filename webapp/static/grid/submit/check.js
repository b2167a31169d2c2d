// Asks the server what it would say, by the same validator that a submit meets, while one types.
import { fieldNames, field, fill, showProblems, showUsual, touched } from "./fields.js";
import { showFiles } from "./list.js";
import { at, form, state, tell } from "./page.js";

const PAUSE_MS = 350;
let asked = 0, timer = 0;

export function said(more) {
  const data = new FormData();
  for (const name of fieldNames()) if (field(name).value.trim()) data.append(name, field(name).value);
  data.append("csrfmiddlewaretoken", form.elements.csrfmiddlewaretoken.value);
  data.append("whole", "1");
  data.append("folder_name", state.folderName);
  data.append("listed", JSON.stringify([...state.files.values()].map(({ path, size, sha256, executable }) => ({ path, size, sha256: sha256 || "", executable: Boolean(executable) }))));
  for (const [name, value] of Object.entries(more || {})) data.append(name, value);
  return data;
}

// What the server says to what is filled in; null when it could not be asked, or when a newer question was asked.
export async function check(more) {
  const number = ++asked;
  const data = said({ base: state.base, ...(form.dataset.again ? { again: form.dataset.again } : {}), ...more });
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
  showUsual(found.usual, () => checkSoon(0));
  state.taken = new Set(found.files.taken || (found.json ? [] : state.files.keys()));
  state.missing = new Set(found.files.missing || []);
  if (found.json && document.activeElement !== at("id_spec")) at("id_spec").value = touched() ? found.json : "";
  at("same").hidden = !found.same || !touched() || found.problems.length > 0;
  if (found.same) {
    at("same-shell").textContent = found.same.shell;
    at("same-python").textContent = found.same.python;
    at("same-save").hidden = !found.same.save;
  }
  showFiles();
}

export function checkSoon(pause = PAUSE_MS, more) {
  clearTimeout(timer);
  timer = setTimeout(() => { if (!state.busy) check(more); }, pause);
}

// What waits to be checked is not any more: it is submitted.
export function checkNoMore() {
  clearTimeout(timer);
}

// Checks follow what is typed into the fields, or into the whole as JSON.
export function followFields() {
  form.addEventListener("input", (event) => {
    if (event.target.type === "file" || !event.target.name) return;
    if (event.target.name === "spec") {
      state.edited = new Set();
      if (event.target.value.trim()) checkSoon(2 * PAUSE_MS, { spec: event.target.value, fill: "1" });
      return;
    }
    state.edited.add(event.target.name);
    checkSoon();
  });
}

// The fields of the form: what stands in them, what is wrong with it, and what similar tasks used.
import { at, count, element, form, state } from "./page.js";

export const field = (name) => at(`id_${name}`);

export const fieldNames = () => [...form.querySelectorAll("[data-field]")].map((one) => one.dataset.field);

// Nobody is told that something is missing before having begun.
export const touched = () => state.files.size > 0 || state.edited.size > 0 || fieldNames().some((name) => field(name).value.trim());

export function put(name, text) {
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

export function fill(texts) {
  for (const name of new Set([...fieldNames(), ...Object.keys(texts)])) {
    if (!state.edited.has(name)) put(name, texts[name] || "");
  }
}

export function showProblems(problems) {
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

// ``onTaken`` is called when somebody takes what is suggested.
export function showUsual(usual, onTaken) {
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
      state.edited.add(name);
      onTaken();
      field(name).focus();
    });
    one.append(button);
  }
}

// The page that takes tasks: files by dropping, checks while one types, and nothing is sent that is stored already.
import { check, followFields } from "./submit/check.js";
import { takeWhatComes } from "./submit/choosing.js";
import { touched } from "./submit/fields.js";
import { showFiles } from "./submit/list.js";
import { at, form, state } from "./submit/page.js";
import { beginAnew, sendWhenAsked } from "./submit/sending.js";

document.documentElement.classList.add("js");
followFields();
takeWhatComes();
sendWhenAsked();

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
    state.edited = new Set();
    check({ spec: example.parentElement.querySelector("pre").textContent, fill: "1" });
    form.querySelector(".group").scrollIntoView({ block: "start" });
  });
}
addEventListener("pageshow", (event) => { if (event.persisted) beginAnew(); });
showFiles();
if (touched()) check();

// Choosing rows of the list: what was chosen stays so while the list changes under it.
"use strict";

(() => {
  const chosen = new Set();
  let last = null;
  const boxes = () => [...document.querySelectorAll("#list .pick input")];

  function show() {
    const all = boxes();
    const there = new Set(all.map((box) => box.value));
    for (const id of chosen) if (!there.has(id)) chosen.delete(id);
    for (const box of all) box.checked = chosen.has(box.value);
    const every = document.getElementById("choose-all");
    if (every) {
      every.checked = all.length > 0 && chosen.size === all.length;
      every.indeterminate = chosen.size > 0 && chosen.size < all.length;
    }
    const words = document.getElementById("chosen");
    const text = `${chosen.size} task${chosen.size === 1 ? "" : "s"} chosen:`;
    if (words && words.textContent !== text) words.textContent = text;
  }

  function mark(box, on) {
    if (on) chosen.add(box.value); else chosen.delete(box.value);
  }

  document.documentElement.classList.add("scripted");
  document.addEventListener("click", (event) => {
    const box = event.target;
    if (box.id === "choose-all") for (const one of boxes()) mark(one, box.checked);
    else if (box.id === "choose-none") chosen.clear();
    else if (box.matches && box.matches("#list .pick input")) {
      const all = boxes();
      const [from, to] = [all.findIndex((one) => one.value === last), all.indexOf(box)];
      // With shift, from the last one that was chosen to this one.
      const range = event.shiftKey && from >= 0 ? all.slice(Math.min(from, to), Math.max(from, to) + 1) : [box];
      for (const one of range) mark(one, box.checked);
      last = box.value;
    } else return;
    show();
  });
  new MutationObserver(show).observe(document.getElementById("main"), { childList: true, subtree: true });
  for (const box of boxes()) mark(box, box.checked);
  show();
})();

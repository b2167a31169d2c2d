// The hashes of the files, by which the server knows what it has; taken in the background.
import { check } from "./check.js";
import { showFiles } from "./list.js";
import { form, size, state, tell } from "./page.js";

const remembered = new Map();  // hash by (name, size, time), so that choosing the same again costs nothing
let hashing = null;

export function hashAll() {
  if (!hashing) hashing = hashEach().finally(() => { hashing = null; });
  return hashing;
}

async function hashEach() {
  let worker = null;
  try {
    for (;;) {
      const file = [...state.files.values()].find((one) => !one.sha256 && !one.broken);
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
  if (state.files.size && !state.busy) await check();
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

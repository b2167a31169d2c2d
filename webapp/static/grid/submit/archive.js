// What is in a zip or a tar, as a list of files, so that each of them is sent only if it is not stored yet. What cannot
// be read here (other ways of packing, passwords) gives null: such an archive is sent as it is, and the server unpacks it.
const MOST_INFLATED = 1024 ** 3;
const MOST_ENTRIES = 20000;

function inflated(blob, way) {
  const stream = blob.stream().pipeThrough(new DecompressionStream(way));
  let size = 0;
  const limit = new TransformStream({
    transform(part, controller) {
      size += part.byteLength;
      if (size > MOST_INFLATED) throw new Error("it unpacks to more than a browser should hold; send the files themselves");
      controller.enqueue(part);
    },
  });
  return new Response(stream.pipeThrough(limit)).blob();
}

async function zipEntries(file) {
  const tail = new DataView(await file.slice(Math.max(0, file.size - 65557)).arrayBuffer());
  let end = tail.byteLength - 22;
  while (end >= 0 && tail.getUint32(end, true) !== 0x06054b50) end--;
  if (end < 0) return null;
  const count = tail.getUint16(end + 10, true), length = tail.getUint32(end + 12, true), start = tail.getUint32(end + 16, true);
  if (count > MOST_ENTRIES || count === 0xffff || start === 0xffffffff) return null;
  const bytes = await file.slice(start, start + length).arrayBuffer();
  const list = new DataView(bytes);
  const found = [];
  for (let at = 0, left = count; left > 0; left--) {
    if (at + 46 > list.byteLength || list.getUint32(at, true) !== 0x02014b50) return null;
    const flags = list.getUint16(at + 8, true), way = list.getUint16(at + 10, true);
    const packed = list.getUint32(at + 20, true), size = list.getUint32(at + 24, true);
    const named = list.getUint16(at + 28, true), skip = list.getUint16(at + 30, true) + list.getUint16(at + 32, true);
    const mode = list.getUint32(at + 38, true) >>> 16, offset = list.getUint32(at + 42, true);
    const name = new TextDecoder().decode(new Uint8Array(bytes, at + 46, named));
    at += 46 + named + skip;
    if (name.endsWith("/") || name.startsWith("__MACOSX/")) continue;
    const kind = mode & 0xf000;
    if (flags & 1 || (way !== 0 && way !== 8) || (kind && kind !== 0x8000) || packed === 0xffffffff) return null;
    const content = async () => {
      const head = new DataView(await file.slice(offset, offset + 30).arrayBuffer());
      const from = offset + 30 + head.getUint16(26, true) + head.getUint16(28, true);
      const part = file.slice(from, from + packed);
      return way ? inflated(part, "deflate-raw") : part;
    };
    found.push({ path: name, size, executable: Boolean(mode & 0o100), content });
  }
  return found;
}

function tarText(bytes, from, length) {
  const end = bytes.indexOf(0, from);
  return new TextDecoder().decode(bytes.subarray(from, end >= 0 && end < from + length ? end : from + length));
}

async function tarEntries(file) {
  const found = [];
  let longName = "";
  for (let at = 0; at + 512 <= file.size;) {
    const head = new Uint8Array(await file.slice(at, at + 512).arrayBuffer());
    if (head[0] === 0) break;
    if (tarText(head, 257, 5) !== "ustar") return null;
    const size = parseInt(tarText(head, 124, 12).trim() || "0", 8);
    if (!Number.isFinite(size) || size < 0 || found.length > MOST_ENTRIES) return null;
    const kind = String.fromCharCode(head[156]);
    const content = file.slice(at + 512, at + 512 + size);
    at += 512 + Math.ceil(size / 512) * 512;
    const before = tarText(head, 345, 155);
    const name = longName || (before && head[262] === 0 ? `${before}/` : "") + tarText(head, 0, 100);
    if (kind === "L" || kind === "x") {
      const text = new Uint8Array(await content.slice(0, 65536).arrayBuffer());
      if (kind === "L") longName = tarText(text, 0, text.length);
      else {
        const said = new TextDecoder().decode(text);
        if (/\d+ size=/.test(said)) return null;
        const path = said.match(/\d+ path=([^\n]*)\n/);
        if (path) longName = path[1];
      }
      continue;
    }
    longName = "";
    if (kind === "g" || kind === "5") continue;
    if (kind !== "0" && kind !== "\0") return null;
    const executable = Boolean(parseInt(tarText(head, 100, 8).trim() || "0", 8) & 0o100);
    found.push({ path: name, size, executable, content: async () => content });
  }
  // Not even one: this is no tar, but one that is packed in another way.
  return found.length ? found : null;
}

// The files in the archive: {path, size, executable, content()}, or null if the server has to look.
export async function archiveEntries(file) {
  const head = new Uint8Array(await file.slice(0, 2).arrayBuffer());
  if (head[0] === 0x50 && head[1] === 0x4b) return "DecompressionStream" in window ? zipEntries(file) : null;
  if (head[0] === 0x1f && head[1] === 0x8b) return "DecompressionStream" in window ? tarEntries(await inflated(file, "gzip")) : null;
  return tarEntries(file);
}

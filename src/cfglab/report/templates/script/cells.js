/* every cell by its position; the page of a large run loads them from files beside it when somebody looks */
const pages = data.pages, requests = new Map(), blocks = [];
const SHOWN = ["w", "difference", "cosine", "run", "saved"];
if (pages) Object.assign(data, { file: [], bad: {}, lost: {}, scores: data.metrics.map(() => []) });

function floats(text) {
  const bytes = atob(text), numbers = new Float32Array(bytes.length / 4), view = new DataView(numbers.buffer);
  for (let i = 0; i < bytes.length; i++) view.setUint8(i, bytes.charCodeAt(i));
  return numbers;
}
globalThis.cfglab = (kind, number, content) => {
  if (kind === "version") offer(content);
  if (kind === "scores") data.scores[number] = floats(content);
  if (kind === "traces") blocks[number] = floats(content);
  if (kind === "pictures") {
    content.file.forEach((file, index) => { data.file[number * pages.pictures + index] = file; });
    Object.assign(data.bad, content.bad);
  }
};
if (!pages && data.traces) blocks[0] = floats(data.traces);

function loaded(kind, number) {
  const name = `${kind}-${number}`;
  if (!requests.has(name)) {
    requests.set(name, new Promise((resolve) => {
      const script = document.createElement("script");
      script.src = `${pages.folder}/${name}.js`;
      script.onload = script.onerror = ({ type }) => {
        if (type === "error") {
          requests.delete(name);  // it may be there the next time
          missing.add(name);
        } else missing.delete(name);
        script.remove();
        resolve();
      };
      document.head.append(script);
    }));
  }
  return requests.get(name);
}
const missing = new Set();
const lost = () => missing.size ? `${pages.folder}/ is not beside this page: keep the two together, or write the report again` : "";
const numbersOf = (positions, size) => [...new Set(positions.map((position) => Math.floor(position / size)))];

/* call `then` once these cells are here: at once, where all of them are inside the page */
function withCells(positions, then, { traces = false, pictures = true } = {}) {
  if (!pages) return then();
  const waiting = data.metrics.map((_, metric) => loaded("scores", metric));
  if (pictures) waiting.push(...numbersOf(positions, pages.pictures).map((number) => loaded("pictures", number)));
  if (traces && data.trace) waiting.push(...numbersOf(positions, pages.traces).map((number) => loaded("traces", number)));
  return Promise.all(waiting).then(then);
}

const fileOf = (position) => data.file[position] ?? null;
const sourceOf = (position) => position in data.bad || position in data.lost ? null : pages ? fileOf(position) && encodeURI(fileOf(position)) : data.src[position];
const faultOf = (position) => data.bad[position] ? `failed: ${data.bad[position]}` : data.lost[position] ? data.lost[position] : sourceOf(position) ? "" : lost() || "not generated yet";
function scoreOf(metric, position) {
  const value = data.scores[metric]?.[position];
  return value === undefined || value === null || Number.isNaN(value) ? null : value;
}

/* the trace of a cell, an array for each of SHOWN; null where none was kept */
function traceOf(position) {
  const calls = data.trace?.step.length, size = pages ? pages.traces : S * P * Q, block = blocks[Math.floor(position / size)];
  if (!calls || !block) return null;
  const start = (position % size) * SHOWN.length * calls;
  const rows = SHOWN.map((_, row) => [...block.subarray(start + row * calls, start + (row + 1) * calls)].map((value) => Number.isNaN(value) ? null : value));
  return rows.at(-1)[0] === null ? null : Object.fromEntries(SHOWN.map((name, row) => [name, rows[row]]));
}

/* an image, or why there is none, inside a frame that may hold older ones */
function fill(frame, position) {
  const image = frame.querySelector("img"), source = sourceOf(position);
  if (source) image.src = source; else image.removeAttribute("src");
  image.alt = source ? nameOf(position) : "";
  image.onerror = () => { frame.classList.add("empty"); frame.dataset.fault = `${fileOf(position) ?? "the image"} cannot be read`; };
  const failed = position in data.bad || position in data.lost;
  frame.classList.toggle("failed", failed);
  frame.classList.toggle("empty", !source && !failed);
  frame.dataset.fault = faultOf(position);
}

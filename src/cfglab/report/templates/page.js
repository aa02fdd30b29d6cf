"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const byId = (id) => document.getElementById(id);
const chosen = { prompt: 0, seed: 0 };
const P = data.prompts.length, Q = data.seeds.length;

const cellOf = (setting) => (setting * P + chosen.prompt) * Q + chosen.seed;
const sourceOf = (cell) => data.src[cell];
const faultOf = (cell) => data.bad[cell] ? `failed: ${data.bad[cell]}` : data.src[cell] ? "" : "not drawn yet";
const element = (tag, text, kind) => {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
};
const spelled = (value, kind) => {
  if (value === null) return "–";
  if (kind === "yes") return value > 0.5 ? "yes" : "no";
  if (kind === "dose") return value.toFixed(2).replace("-", "−");
  return (kind === "share" ? `${+(100 * value).toFixed(1)}\u202f%` : String(+value.toPrecision(3))).replace("-", "−");
};

/* the scores of the one picture shown: what the judge missed, then the other numbers */
function own(cell) {
  const line = document.createDocumentFragment();
  const asked = data.metrics.map((metric, index) => [metric, data.scores[index][cell]]).filter(([metric, value]) => metric.kind === "yes" && value !== null);
  if (asked.length) {
    const missed = asked.filter(([metric, value]) => value < 0.5 && !metric.main).map(([metric]) => metric.title.toLowerCase());
    const right = asked.every(([, value]) => value > 0.5);
    line.append(element("span", right ? "✓ as asked" : `✗ ${missed.join(", ") || "not as asked"}`, right ? "yes" : "no"));
  }
  const numbers = data.metrics.map((metric, index) => [metric, data.scores[index][cell]]).filter(([metric, value]) => metric.kind !== "yes" && value !== null);
  const text = numbers.map(([metric, value]) => `${metric.title.toLowerCase()} ${spelled(value, metric.kind)}`).join(" · ");
  if (text) line.append(element("span", text));
  return line;
}

function show() {
  for (const card of all(".card")) {
    const cell = cellOf(+card.dataset.setting), picture = card.querySelector(".picture"), image = picture.querySelector("img");
    const source = sourceOf(cell), fault = faultOf(cell);
    if (source) image.src = source; else image.removeAttribute("src");
    image.alt = source ? `${data.settings[card.dataset.setting].title}: ${data.prompts[chosen.prompt]}, seed ${data.seeds[chosen.seed]}` : "";
    picture.classList.toggle("failed", cell in data.bad);
    picture.classList.toggle("empty", !source && !(cell in data.bad));
    picture.dataset.fault = fault;
    card.querySelector(".own").replaceChildren(own(cell));
  }
  byId("seed").value = chosen.seed;
  if (byId("prompt")) byId("prompt").value = chosen.prompt;
}

/* the large view */
const box = byId("box");
let open = 0;
function curve(setting) {
  const svg = byId("box-curve"), NS = svg.namespaceURI;
  const values = data.settings.flatMap((it) => it.values).filter((value) => value !== null);
  const low = Math.min(1, ...values), high = Math.max(...values, low + 1e-9);
  const x = (index, length) => 26 + 288 * index / Math.max(1, length - 1), y = (value) => 106 - 96 * (value - low) / (high - low);
  const make = (tag, attributes, text) => {
    const made = document.createElementNS(NS, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const path = (list) => list.map((value, index) => value === null ? "" : `${index === 0 || list[index - 1] === null ? "M" : "L"}${x(index, list.length).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  const parts = [];
  for (const value of [low, (low + high) / 2, high]) {
    parts.push(make("line", { x1: 26, x2: 314, y1: y(value), y2: y(value) }), make("text", { x: 20, y: y(value) + 3.5, "text-anchor": "end" }, +value.toPrecision(3)));
  }
  parts.push(make("text", { x: 26, y: 124 }, "step 0"), make("text", { x: 314, y: 124, "text-anchor": "end" }, data.steps - 1));
  if (setting !== data.baseline) parts.push(make("path", { d: path(data.settings[data.baseline].values), style: "stroke: var(--accent); stroke-width: 1.2; stroke-dasharray: 4 4" }));
  parts.push(make("path", { d: path(data.settings[setting].values), style: `stroke: ${data.settings[setting].colour}` }));
  svg.replaceChildren(...parts);
}
function large(setting) {
  open = (setting + data.settings.length) % data.settings.length;
  const it = data.settings[open], cell = cellOf(open), source = sourceOf(cell), file = data.file[cell];
  const image = byId("box-picture");
  if (source) image.src = source; else image.removeAttribute("src");
  byId("box-fault").textContent = faultOf(cell);
  byId("box-title").textContent = it.group === "baseline" ? `${it.title} (baseline)` : it.title;
  byId("box-where").textContent = `${data.prompts[chosen.prompt]} · seed ${data.seeds[chosen.seed]} · ${it.group}`;
  curve(open);
  byId("box-text").textContent = it.text;
  const facts = data.metrics.map((metric, index) => [metric.title, spelled(data.scores[index][cell], metric.kind)]).filter(([, value]) => value !== "–");
  facts.push(["Dose", spelled(it.dose, "dose")], ["Effective dose", spelled(it.effective, "dose")]);
  byId("box-scores").replaceChildren(...facts.map(([name, value]) => {
    const row = element("div");
    row.append(element("dt", name), element("dd", value));
    return row;
  }));
  byId("box-command").textContent = file ? `cfglab reproduce ${quoted(file)} --out copy.png` : "";
  byId("box-command").parentElement.hidden = byId("box-file").hidden = !file;
  byId("box-file").href = file ? encodeURI(file) : "";
  if (!box.open) box.showModal();
}
const quoted = (text) => /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`;

function step(by) {
  chosen.seed = (chosen.seed + by + Q) % Q;
  show();
  if (box.open) large(open);
}

document.addEventListener("click", (event) => {
  const picture = event.target.closest(".picture");
  if (picture) large(+picture.closest(".card").dataset.setting);
  const turn = event.target.closest("[data-turn]");
  if (turn) large(open + +turn.dataset.turn);
  const seed = event.target.closest("[data-step]");
  if (seed) step(+seed.dataset.step);
  const copy = event.target.closest(".copy");
  if (copy) copied(copy);
  if (event.target === box) box.close();
});
async function copied(button) {
  const code = button.parentElement.querySelector("code");
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "copied";
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  } catch {
    getSelection().selectAllChildren(code);
  }
}
box.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") large(open - 1);
  if (event.key === "ArrowRight") large(open + 1);
  if (event.key === "ArrowUp" || event.key === "ArrowDown") { event.preventDefault(); step(event.key === "ArrowUp" ? -1 : 1); }
});
byId("seed").addEventListener("change", (event) => { chosen.seed = +event.target.value; show(); });
byId("prompt")?.addEventListener("change", (event) => { chosen.prompt = +event.target.value; show(); });

/* a curve lights up under the pointer's setting */
for (const spot of all(".chip, .group .card")) {
  const group = spot.closest("section");
  spot.addEventListener("pointerenter", () => {
    group.classList.add("dim");
    all(`.curve[data-setting="${spot.dataset.setting}"]`, group).forEach((curve) => curve.classList.add("lit"));
  });
  spot.addEventListener("pointerleave", () => {
    group.classList.remove("dim");
    all(".lit", group).forEach((curve) => curve.classList.remove("lit"));
  });
}

/* tables sort by a heading: numbers by value, empty ones last */
for (const table of all(".sortable")) {
  const heads = all("thead th", table), body = table.tBodies[0];
  heads.forEach((head, column) => {
    head.tabIndex = 0;
    const key = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
    const sort = () => {
      const down = head.getAttribute("aria-sort") !== "descending" && column > 0;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].sort((one, other) => {
        const a = key(one), b = key(other);
        if (a === "" || b === "") return (a === "") - (b === "");
        const order = isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b;
        return down ? -order : order;
      });
      body.append(...rows);
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
  });
}

byId("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try { localStorage.setItem("cfglab-theme", root.dataset.theme); } catch { /* the choice lasts as long as the page */ }
});
if (P * Q < 2) byId("picker").hidden = true;
if (Q < 2) all(".seed").forEach((part) => { part.hidden = true; });
show();

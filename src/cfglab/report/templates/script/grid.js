/* the images by two axes, one across and one down; the other axes as chosen */
const WIDE = 12, TALL = 8;
const look = { view: "grid", rows: data.first.rows, columns: data.first.columns, rest: {}, row: 0, column: 0 };
const axisOf = (name) => data.axes.findIndex((axis) => axis.name === name);
const isSwept = (name) => axisOf(name) >= 0;
const valuesOf = (name) => name === "prompt" ? data.prompts : name === "seed" ? data.seeds.map(String) : data.axes[axisOf(name)].values;

/* the swept axes that neither rows nor columns decide */
function restAxes() {
  const used = [look.rows, look.columns].filter(isSwept);
  if (used.includes("setting")) return [];
  if (!used.length) return ["setting"];
  return data.axes.map((axis) => axis.name).filter((name) => name !== "setting" && !used.includes(name));
}
/* after other axes were picked: what the first setting has that lies on both */
function settle() {
  const used = [look.rows, look.columns].filter(isSwept).map(axisOf);
  const first = data.at.findIndex((places, setting) => setting !== data.baseline && used.every((axis) => places[axis] >= 0));
  look.rest = Object.fromEntries(restAxes().map((name) => [name, Math.max(0, data.at[Math.max(0, first)]?.[axisOf(name)] ?? 0)]));
  look.row = look.column = 0;
}
/* the setting at these places (strict), and at the chosen ones of the rest where it is on those axes at all */
function settingAt(fixed) {
  const strict = Object.entries(fixed).map(([name, value]) => [axisOf(name), value]);
  const rest = Object.entries(look.rest).map(([name, value]) => [axisOf(name), value]);
  const fits = (places, setting) => setting !== data.baseline && strict.every(([axis, value]) => places[axis] === value);
  const chosenToo = (places) => rest.every(([axis, value]) => places[axis] === value || (places[axis] < 0 && strict.length));
  return data.at.findIndex((places, setting) => fits(places, setting) && chosenToo(places));
}
/* the cell of a row and a column; "base" stands for the baseline, null for a place that no setting has */
function cellOf(row, column) {
  const place = { ...chosen }, fixed = {};
  for (const [name, value] of [[look.rows, row], [look.columns, column]]) {
    if (name === "prompt" || name === "seed") place[name] = value;
    else if (value !== "base") fixed[name] = value;
  }
  const setting = row === "base" || column === "base" ? data.baseline : settingAt(fixed);
  return setting < 0 ? null : at(setting, place.prompt, place.seed);
}
const curvesOf = (cells) => [...new Set(cells.filter((cell) => cell !== null).map((cell) => placeOf(cell).setting))].filter((setting) => setting !== data.baseline);

/* where the columns stand: as the experiment has them, or by the mean score of all of their settings or images */
function ordered(count) {
  const order = [...Array(count).keys()];
  if (scoring.order === "designed") return order;
  const rows = valuesOf(look.rows).map((_, row) => row);
  const means = order.map((column) => {
    const cells = rows.map((row) => cellOf(row, column)).filter((cell) => cell !== null);
    const values = isSwept(look.columns) ? curvesOf(cells).map((setting) => data.settings[setting].numbers[scoring.metric]?.[0] ?? null) : cells.map((cell) => scoreOf(scoring.metric, cell));
    const numbers = values.filter((value) => value !== null);
    return numbers.length ? numbers.reduce((sum, value) => sum + value, 0) / numbers.length : null;
  });
  return order.sort((one, other) => byScore(means[one], means[other]));
}

/* what was asked for last: cells of a large run may come after another look was chosen */
let looking = 0;

function showGrid() {
  const request = ++looking;
  withCells([], () => {
    if (request !== looking) return;
    const order = ordered(valuesOf(look.columns).length), rowCount = valuesOf(look.rows).length;
    look.column = Math.min(look.column, WIDE * Math.floor((order.length - 1) / WIDE));
    const columns = order.slice(look.column, look.column + WIDE), rows = [...Array(rowCount).keys()].slice(look.row, look.row + TALL);
    if (isSwept(look.columns)) columns.unshift("base");
    else if (isSwept(look.rows)) rows.unshift("base");
    const cells = rows.map((row) => columns.map((column) => cellOf(row, column)));
    withCells(cells.flat().filter((cell) => cell !== null), () => { if (request === looking) drawGrid(rows, columns, cells); });
    pager(byId("pager-columns"), look.columns, "column", WIDE, order.length);
    pager(byId("pager-rows"), look.rows, "row", TALL, rowCount);
  }, { pictures: false });
}
function drawGrid(rows, columns, cells) {
  const table = element("table", undefined, "pivot"), head = table.createTHead().insertRow(), body = table.createTBody();
  table.style.minWidth = `${84 + 76 * columns.length}px`;
  table.style.maxWidth = `${100 + 190 * columns.length}px`;
  head.append(element("th", `${look.rows} ↓  ${look.columns} →`, "corner"));
  const name = (axis, value) => value === "base" ? "baseline" : valuesOf(axis)[value];
  const heading = (axis, value, settings) => {
    const cell = element("th", undefined, value === "base" ? "is-base" : "");
    const label = element("span", name(axis, value), "label");
    label.title = label.textContent;
    cell.append(label);
    if (settings) cell.append(spark(value === "base" ? [] : settings));
    return cell;
  };
  columns.forEach((column, index) => head.append(heading(look.columns, column, isSwept(look.columns) && curvesOf(cells.map((row) => row[index])))));
  rows.forEach((row, index) => {
    const line = body.insertRow();
    line.append(heading(look.rows, row, !isSwept(look.columns) && isSwept(look.rows) && curvesOf(cells[index])));
    for (const cell of cells[index]) line.insertCell().append(...(cell === null ? [] : tile(cell)));
  });
  byId("pictures").replaceChildren(table);
}
/* an image to be picked, and its score below */
function tile(position) {
  const button = element("button", undefined, "picture tile"), image = element("img"), score = scoreOf(scoring.metric, position);
  button.type = "button";
  button.dataset.position = position;
  button.setAttribute("aria-label", `pick ${nameOf(position)}`);
  button.classList.toggle("out", !passes(position));
  button.classList.toggle("picked", picked === position);
  image.loading = "lazy";
  button.append(image);
  fill(button, position);
  const kind = data.metrics[scoring.metric]?.kind;
  return [button, element("span", score === null ? "" : kind === "yes" ? (score > 0.5 ? "✓" : "✗") : spelled(score, kind), `score ${kind === "yes" ? (score > 0.5 ? "yes" : "no") : ""}`)];
}
function pager(where, axis, name, size, count) {
  where.hidden = count <= size;
  const start = look[name], step = (by, text) => {
    const button = element("button", text);
    button.type = "button";
    button.disabled = start + by < 0 || start + by >= count;
    button.setAttribute("aria-label", `${by < 0 ? "earlier" : "later"} ${name}s`);
    button.dataset.hold = text;
    button.addEventListener("click", () => { look[name] = start + by; explore(); });
    return button;
  };
  rebuild(where, step(-size, "‹"), element("span", `${axis} ${start + 1} to ${Math.min(count, start + size)} of ${count.toLocaleString("en")}`), step(size, "›"));
}

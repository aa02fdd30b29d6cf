/* the controls above grid and list, and the image that waits for a second one */
let picked = null;

function explore() {
  const yes = data.metrics[scoring.metric]?.kind === "yes", grid = look.view === "grid";
  all("[data-view]").forEach((button) => button.setAttribute("aria-pressed", button.dataset.view === look.view));
  all(".for-grid").forEach((part) => { part.hidden = !grid; });
  all(".for-list").forEach((part) => { part.hidden = grid; });
  byId("rows").value = look.rows;
  byId("columns").value = look.columns;
  byId("keep").hidden = !yes || !data.metrics.length;
  byId("between").hidden = yes || !data.metrics.length;
  all(".by-score").forEach((part) => { part.hidden = !data.metrics.length; });
  drawRest();
  if (grid) showGrid(); else showList();
}
function drawRest() {
  rebuild(byId("rest"), ...(look.view === "grid" ? restAxes() : []).map((name) => {
    const label = element("label"), select = element("select");
    select.append(...valuesOf(name).map((value, index) => option(index, value)));
    select.value = look.rest[name] ?? 0;
    select.dataset.hold = name;
    select.addEventListener("change", () => { look.rest[name] = +select.value; explore(); });
    label.append(element("span", name, "soft"), " ", select);
    return label;
  }));
}
function setAxis(which, name) {
  const other = which === "rows" ? "columns" : "rows";
  if (look[other] === name) look[other] = look[which];
  look[which] = name;
  settle();
  explore();
}

/* the first image waits in the tray; the second one makes them flicker; the same one again opens large */
function pick(position) {
  if (picked === null) {
    picked = position;
    all(".tile").forEach((made) => made.classList.toggle("picked", +made.dataset.position === position));
    fill(byId("tray-picture"), position);
    byId("tray-name").textContent = nameOf(position);
    byId("tray").hidden = false;
  } else if (picked === position) {
    unpick();
    openLarge(position);
  } else openFlicker(picked, position);
}
function unpick() {
  picked = null;
  byId("tray").hidden = true;
  all(".tile.picked").forEach((made) => made.classList.remove("picked"));
}

{
  const axes = [...data.axes.map((axis) => axis.name), ...(P > 1 ? ["prompt"] : []), ...(Q > 1 || P === 1 ? ["seed"] : [])];
  for (const which of ["rows", "columns"]) {
    byId(which).append(...axes.map((name) => option(name, name)));
    byId(which).addEventListener("change", (event) => setAxis(which, event.target.value));
  }
  byId("metric").append(...data.metrics.map((metric, index) => option(index, metric.title)));
  byId("metric").value = scoring.metric;
}
byId("swap").addEventListener("click", () => { [look.rows, look.columns] = [look.columns, look.rows]; settle(); explore(); });
for (const name of ["metric", "order", "keep", "scope"]) {
  byId(name)?.addEventListener("change", (event) => {
    scoring[name] = name === "metric" ? +event.target.value : event.target.value;
    if (name === "metric") {
      scoring.keep = byId("keep").value = "all";
      scoring.least = scoring.most = null;
      byId("least").value = byId("most").value = "";
    }
    scoring.start = look.column = 0;
    explore();
  });
}
for (const name of ["least", "most"]) {
  byId(name).addEventListener("input", (event) => {
    const part = data.metrics[scoring.metric]?.kind === "share" ? 100 : 1;
    scoring[name] = event.target.value === "" || Number.isNaN(+event.target.value) ? null : +event.target.value / part;
    scoring.start = 0;
    explore();
  });
}
byId("explore").addEventListener("click", (event) => {
  const view = event.target.closest("[data-view]"), clicked = event.target.closest(".tile");
  if (view) { look.view = view.dataset.view; explore(); }
  if (clicked) pick(+clicked.dataset.position);
});
byId("tray-open").addEventListener("click", () => { const position = picked; unpick(); openLarge(position); });
byId("tray-close").addEventListener("click", unpick);

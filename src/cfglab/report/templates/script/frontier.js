/* every setting by two of its numbers, with their intervals: what buys fidelity with alignment, and what wastes both */
const frontier = byId("frontier");
const SHAPES = [(r) => `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0Z`, (r) => `M${-r} ${-r}h${2 * r}v${2 * r}h${-2 * r}Z`, (r) => `M0 ${-1.2 * r}L${1.2 * r} ${r}H${-1.2 * r}Z`, (r) => `M0 ${1.2 * r}L${1.2 * r} ${-r}H${-1.2 * r}Z`];
const DIAMOND = (r) => `M0 ${-1.4 * r}L${1.4 * r} 0L0 ${1.4 * r}L${-1.4 * r} 0Z`;
const groupsOf = [...new Set(data.settings.filter((_, setting) => setting !== data.baseline).map((it) => it.group))];
const measureOf = (id) => id === "dose" ? { title: "Dose", kind: "dose", better: null } : data.measures[id];
const numberOf = (setting, id) => id === "dose" ? (data.settings[setting].dose === null ? null : [data.settings[setting].dose, null, null]) : data.settings[setting].numbers[id];
const inUnits = (kind) => kind === "yes" || kind === "share" ? 100 : 1;

/* the settings that no other one beats in both: equal in one and better in the other beats */
function undominated(points, x, y) {
  const sign = (measure) => measure.better === "lower" ? -1 : 1;
  const better = (one, other) => {
    const gaps = [[x, "x"], [y, "y"]].map(([measure, name]) => sign(measure) * (one[name][0] - other[name][0]));
    return gaps.every((gap) => gap >= 0) && gaps.some((gap) => gap > 0);
  };
  return points.filter((point) => !points.some((other) => better(other, point)));
}
function drawFrontier() {
  const [xId, yId] = ["frontier-x", "frontier-y"].map((id) => byId(id).value), x = measureOf(xId), y = measureOf(yId);
  const points = data.settings.map((_, setting) => ({ setting, x: numberOf(setting, xId), y: numberOf(setting, yId) })).filter((point) => point.x && point.y);
  const width = Math.max(300, frontier.clientWidth), height = Math.round(Math.min(460, Math.max(300, width * 0.56))), left = 54, bottom = height - 46;
  const figure = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "scatter", role: "group", "aria-label": `${y.title} over ${x.title}, every setting` });
  const span = (name, id) => {
    const ends = points.flatMap((point) => point[name]).filter((value) => value !== null), floor = id === "dose" ? null : data.floors[id]?.[0] ?? null;
    if (floor !== null) ends.push(floor);
    const low = Math.min(...ends), high = Math.max(...ends), room = 0.06 * (high - low) || Math.abs(high) * 0.1 || 0.5;
    return [low - room, high + room];
  };
  const [x0, x1] = span("x", xId), [y0, y1] = span("y", yId);
  const px = (value) => left + (width - left - 12) * (value - x0) / (x1 - x0), py = (value) => bottom - (bottom - 14) * (value - y0) / (y1 - y0);
  const label = (value, unit) => String(+(value * unit).toPrecision(6)).replace("-", "−");
  for (const value of ticks(x0, x1, width < 500 ? 4 : 8)) figure.append(svg("line", { x1: px(value), x2: px(value), y1: 14, y2: bottom }), svg("text", { x: px(value), y: bottom + 17, "text-anchor": "middle" }, label(value, inUnits(x.kind))));
  for (const value of ticks(y0, y1, 6)) figure.append(svg("line", { x1: left, x2: width - 12, y1: py(value), y2: py(value) }), svg("text", { x: left - 8, y: py(value) + 4, "text-anchor": "end" }, label(value, inUnits(y.kind))));
  const hint = (measure, low, high) => measure.better === "lower" ? ` · ${low} better` : measure.better === "higher" ? ` · better ${high}` : "";
  const unit = (measure) => inUnits(measure.kind) === 100 ? ", %" : "";
  figure.append(svg("text", { x: width - 12, y: height - 8, "text-anchor": "end", class: "name" }, `${x.title}${unit(x)}${hint(x, "←", "→")}`));
  figure.append(svg("text", { x: -14, y: 13, transform: "rotate(-90)", "text-anchor": "end", class: "name" }, `${y.title}${unit(y)}${hint(y, "←", "→")}`));
  const floor = xId === "dose" ? null : data.floors[xId]?.[0] ?? null;
  if (floor !== null) figure.append(svg("line", { x1: px(floor), x2: px(floor), y1: 14, y2: bottom, class: "floor" }), svg("text", { x: px(floor) + 5, y: 24, class: "name" }, "real images"));
  const best = x.better && y.better ? undominated(points, x, y).sort((one, other) => one.x[0] - other.x[0]) : [];
  if (best.length > 1) figure.append(svg("path", { class: "front", d: path(best.map((point) => point.y[0]), (index) => px(best[index].x[0]), py) }));
  for (const point of [...points.filter((it) => it.setting !== data.baseline), ...points.filter((it) => it.setting === data.baseline)]) figure.append(mark(point, px, py, x, y));
  byId("frontier-plot").replaceChildren(figure);
  byId("frontier-best").textContent = best.length ? `Beaten by no other in both: ${best.map((point) => titleOf(point.setting)).join("; ")}.` : x.better && y.better ? "" : "One of these has no better direction, so nothing is called best.";
  byId("frontier-say").textContent = "";
}
function mark({ setting, x, y }, px, py, xMeasure, yMeasure) {
  const base = setting === data.baseline, it = data.settings[setting], colour = base ? "var(--accent)" : it.colour;
  const group = svg("g", { class: "mark", tabindex: 0, role: "button", "data-setting": setting, style: `--c: ${colour}` });
  if (x[1] !== null) group.append(svg("line", { x1: px(x[1]), x2: px(x[2]), y1: py(y[0]), y2: py(y[0]) }));
  if (y[1] !== null) group.append(svg("line", { x1: px(x[0]), x2: px(x[0]), y1: py(y[1]), y2: py(y[2]) }));
  const shape = base ? DIAMOND : SHAPES[groupsOf.indexOf(it.group) % SHAPES.length], place = `translate(${px(x[0]).toFixed(1)} ${py(y[0]).toFixed(1)})`;
  group.append(svg("path", { class: "reach", d: SHAPES[0](13), transform: place }), svg("path", { d: shape(5), transform: place }));
  const textOf = (measure, value) => `${measure.title} ${spelledMean(value[0], measure.kind)}${value[1] === null ? "" : ` (${spelledMean(value[1], measure.kind)} to ${spelledMean(value[2], measure.kind)})`}`;
  const summary = `${it.title}: ${textOf(yMeasure, y)}; ${textOf(xMeasure, x)}`;
  group.setAttribute("aria-label", summary);
  const say = () => { byId("frontier-say").textContent = summary; };
  group.addEventListener("pointerenter", say);
  group.addEventListener("focus", say);
  group.addEventListener("click", () => openLarge(at(setting)));
  group.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    openLarge(at(setting));
  });
  return group;
}

if (frontier) {
  const measured = data.measures.map((_, id) => id).filter((id) => data.settings.some((_, setting) => numberOf(setting, id)));
  const named = (names) => measured.find((id) => names.some((name) => data.measures[id].name === name || data.measures[id].name.startsWith(`${name}_`)));
  for (const id of ["frontier-x", "frontier-y"]) {
    byId(id).append(...measured.map((measure) => option(measure, data.measures[measure].title)), option("dose", "Dose"));
    byId(id).addEventListener("change", drawFrontier);
  }
  const y = measured.find((id) => data.measures[id].name === data.metrics.find((metric) => metric.main)?.name) ?? measured[0];
  byId("frontier-y").value = y;
  byId("frontier-x").value = named(["kid"]) ?? named(["fid"]) ?? "dose";
  addEventListener("resize", drawFrontier);
  drawFrontier();
}

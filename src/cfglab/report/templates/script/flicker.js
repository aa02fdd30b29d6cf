/* two images in one place, in turn, which shows what differs. At most three changes a second, and none without a click
   where the system asks for less motion */
const flicker = byId("flicker");
let pair = [0, 0], shownOf = 0, ticking = 0;

function openFlicker(one, other) {
  pair = [one, other];
  withCells([one, other], () => {
    all(".frame .picture", flicker).forEach((frame, index) => fill(frame, pair[index]));
    byId("flicker-scores").replaceChildren(...comparison());
    const style = (position, more) => ({ values: data.settings[placeOf(position).setting].values, style: `stroke: ${data.settings[placeOf(position).setting].colour}; ${more}` });
    byId("flicker-curves").replaceChildren(chart([style(one, ""), style(other, "stroke-dasharray: 5 4")], { floor: 1 }));
    setMode("flicker");
    show(0);
    if (!flicker.open) flicker.showModal();
    play(!matchMedia("(prefers-reduced-motion: reduce)").matches);
  });
}
function comparison() {
  const rows = pair.map((position, index) => ["AB"[index], nameOf(position)]);
  const names = rows.map(([letter, name]) => {
    const line = element("p", undefined, "named");
    line.append(element("b", letter), ` ${name}`);
    return line;
  });
  const table = element("table"), body = table.createTBody();
  const head = table.createTHead().insertRow();
  head.append(element("th"), element("th", "A"), element("th", "B"));
  data.metrics.forEach((metric, index) => {
    const values = pair.map((position) => spelled(scoreOf(index, position), metric.kind));
    if (values.every((value) => value === "–")) return;
    const row = body.insertRow();
    row.className = values[0] === values[1] ? "same" : "";
    row.append(element("th", metric.title), ...values.map((value) => element("td", value)));
  });
  return [...names, table];
}
function show(which) {
  shownOf = which;
  flicker.dataset.shown = "AB"[which];
  byId("flicker-name").textContent = `${"AB"[which]} · ${nameOf(pair[which])}`;
}
function play(on) {
  clearInterval(ticking);
  ticking = on ? setInterval(() => show(1 - shownOf), 1000 / +byId("flicker-speed").value) : 0;
  byId("flicker-play").textContent = on ? "pause" : "play";
  byId("flicker-play").setAttribute("aria-pressed", on);
}
function setMode(mode) {
  flicker.dataset.mode = mode;
  all("[data-mode]", flicker).forEach((button) => button.setAttribute("aria-pressed", button.dataset.mode === mode));
  if (mode !== "flicker") play(false);
}

byId("flicker-play").addEventListener("click", () => { setMode("flicker"); play(!ticking); });
byId("flicker-speed").addEventListener("input", () => { if (ticking) play(true); });
flicker.addEventListener("click", (event) => {
  const mode = event.target.closest("button[data-mode]"), which = event.target.closest("button[data-show]");
  if (mode) setMode(mode.dataset.mode);
  if (which) { setMode("flicker"); play(false); show(+which.dataset.show); }
  if (event.target === flicker) flicker.close();
});
flicker.addEventListener("keydown", (event) => {
  if (event.key !== " " && event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
  if (event.target.matches(event.key === " " ? "button, input" : "input")) return;
  event.preventDefault();
  if (event.key === " ") { setMode("flicker"); play(!ticking); } else { setMode("flicker"); play(false); show(1 - shownOf); }
});
flicker.addEventListener("close", () => { play(false); unpick(); });

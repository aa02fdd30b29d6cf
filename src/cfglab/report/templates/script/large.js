/* one image, large, with its scores, its trace and the command that makes it */
const box = byId("box");
let opened = 0;

function openLarge(position) {
  opened = position;
  withCells([position, at(data.baseline, placeOf(position).prompt, placeOf(position).seed)], () => {
    if (opened === position) showLarge(position);
  }, { traces: true });
}
function showLarge(position) {
  const place = placeOf(position), it = data.settings[place.setting], file = fileOf(position);
  const image = byId("box-picture"), source = sourceOf(position);
  if (source) image.src = source; else image.removeAttribute("src");
  image.alt = source ? nameOf(position) : "";
  image.onerror = () => { byId("box-fault").textContent = `${file ?? "the image"} cannot be read`; };
  byId("box-fault").textContent = faultOf(position);
  byId("box-title").textContent = it.group === "baseline" ? `${it.title} (baseline)` : it.title;
  byId("box-where").textContent = `${data.prompts[place.prompt]} · seed ${data.seeds[place.seed]} · ${it.group}`;
  byId("box-text").textContent = it.text;
  const facts = data.metrics.map((metric, index) => [metric.title, spelled(scoreOf(index, position), metric.kind)]).filter(([, value]) => value !== "–");
  facts.push(["Dose", spelled(it.dose, "dose")], ["Effective dose", spelled(it.effective, "dose")]);
  byId("box-scores").replaceChildren(...facts.map(([name, value]) => {
    const row = element("div");
    row.append(element("dt", name), element("dd", value));
    return row;
  }));
  drawTraces(byId("box-traces"), position);
  byId("box-command").textContent = file && data.remade ? `cfglab reproduce ${quoted(file)} --out copy.png` : "";
  byId("box-command").parentElement.hidden = !file || !data.remade;
  byId("box-file").hidden = !file;
  byId("box-file").href = file ? encodeURI(file) : "";
  byId("box-flicker").hidden = place.setting === data.baseline || !source;
  if (!box.open) box.showModal();
}
function turn(settings, seeds) {
  const { setting, prompt, seed } = placeOf(opened);
  openLarge(at((setting + settings + S) % S, prompt, (seed + seeds + Q) % Q));
}

byId("box-flicker").addEventListener("click", () => {
  const { prompt, seed } = placeOf(opened);
  box.close();
  openFlicker(at(data.baseline, prompt, seed), opened);
});
box.addEventListener("click", (event) => {
  const button = event.target.closest("[data-turn]");
  if (button) turn(+button.dataset.turn, 0);
  if (event.target === box) box.close();
});
box.addEventListener("keydown", (event) => {
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!way) return;
  event.preventDefault();
  turn(...way);
});

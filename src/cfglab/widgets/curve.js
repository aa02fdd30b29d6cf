// A curve with knots: pointer and keyboard move them, a double click adds one, Delete removes one.
const SVG = "http://www.w3.org/2000/svg";
const W = 440, H = 230, LEFT = 34, RIGHT = 12, TOP = 12, BOTTOM = 26;

const element = (name, attributes = {}, text = "") => {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  return node;
};
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const round = (value, digits) => Number(value.toFixed(digits));

function roundTicks(low, high) {
  const size = 10 ** Math.floor(Math.log10((high - low) / 5));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * size).find((it) => (high - low) / it <= 5.5);
  const ticks = [];
  for (let at = Math.ceil(low / step); at * step <= high + 1e-9; at++) ticks.push(round(at * step, 6));
  return ticks;
}

function render({ model, el }) {
  const root = document.createElement("div");
  root.className = "cfglab-curve";
  const svg = element("svg", { viewBox: `0 0 ${W} ${H}`, role: "group", "aria-label": "Scale w over the steps" });
  const grid = element("path", { class: "grid" });
  const ticks = element("g", { class: "ticks" });
  const line = element("path", { class: "line" });
  const knots = element("g");
  svg.append(grid, ticks, line, knots);
  const text = document.createElement("div");
  text.className = "text";
  const help = document.createElement("div");
  help.className = "help";
  help.textContent = "drag a knot or use the arrow keys · double click adds one · Delete removes one";
  root.append(svg, text, help);
  el.append(root);

  const x = (place) => LEFT + (W - LEFT - RIGHT) * place;
  const y = (w) => H - BOTTOM - ((H - TOP - BOTTOM) * (w - model.get("low"))) / (model.get("high") - model.get("low"));
  const unY = (at) => model.get("low") + ((H - BOTTOM - at) / (H - TOP - BOTTOM)) * (model.get("high") - model.get("low"));
  const at = (event) => {
    const box = svg.getBoundingClientRect();
    const place = ((event.clientX - box.left) * W) / box.width, height = ((event.clientY - box.top) * H) / box.height;
    return [clamp((place - LEFT) / (W - LEFT - RIGHT), 0, 1), clamp(unY(height), model.get("low"), model.get("high"))];
  };
  let dragged = null;

  function drawAxes() {
    const low = model.get("low"), high = model.get("high"), steps = model.get("steps");
    ticks.replaceChildren();
    let path = "";
    for (const w of roundTicks(low, high)) {
      path += `M${LEFT} ${y(w)}H${W - RIGHT}`;
      ticks.append(element("text", { x: LEFT - 6, y: y(w) + 4, "text-anchor": "end" }, String(w)));
    }
    for (const step of roundTicks(0, steps).filter(Number.isInteger)) {
      path += `M${x(step / steps)} ${TOP}V${H - BOTTOM}`;
      ticks.append(element("text", { x: x(step / steps), y: H - 8, "text-anchor": "middle" }, String(step)));
    }
    grid.setAttribute("d", path);
  }

  function drawCurve() {
    const values = model.get("curve"), places = model.get("knots"), steps = model.get("steps");
    const points = values.length ? [...values.map((w, index) => [index / steps, w]), places[places.length - 1]] : places;
    line.setAttribute("d", points.map(([place, w], index) => `${index ? "L" : "M"}${x(place)} ${y(w)}`).join(""));
    while (knots.children.length > places.length) knots.lastChild.remove();
    while (knots.children.length < places.length) {
      knots.append(element("circle", { class: "knot", r: 6, tabindex: 0, role: "slider" }));
    }
    places.forEach(([place, w], index) => {
      const knot = knots.children[index];
      const words = `step ${round(place * steps, 1)}, w ${round(w, 2)}`;
      const state = { cx: x(place), cy: y(w), "aria-label": `knot ${index + 1}`, "aria-valuetext": words, "aria-valuenow": round(w, 2) };
      for (const [key, value] of Object.entries(state)) knot.setAttribute(key, value);
    });
    text.textContent = model.get("text");
  }

  function set(places) {
    model.set("curve", []); // Python answers with the values at the steps
    model.set("knots", places);
    model.save_changes();
    drawCurve();
  }

  function move(index, place, w) {
    const places = model.get("knots").map((knot) => [...knot]);
    const gap = 1e-3;
    const ends = index === 0 || index === places.length - 1;
    const inside = ends ? places[index][0] : clamp(place, places[index - 1][0] + gap, places[index + 1][0] - gap);
    places[index] = [round(inside, 4), round(clamp(w, model.get("low"), model.get("high")), 2)];
    set(places);
  }

  function remove(index) {
    const places = model.get("knots");
    if (index > 0 && index < places.length - 1) set(places.filter((_, number) => number !== index));
  }

  const indexOf = (target) => [...knots.children].indexOf(target);
  svg.addEventListener("pointerdown", (event) => {
    dragged = indexOf(event.target);
    if (dragged < 0) return;
    svg.setPointerCapture(event.pointerId);
    event.target.focus();
    event.preventDefault();
  });
  svg.addEventListener("pointermove", (event) => {
    if (dragged !== null && dragged >= 0) move(dragged, ...at(event));
  });
  const release = () => (dragged = null);
  svg.addEventListener("pointerup", release);
  svg.addEventListener("pointercancel", release);
  svg.addEventListener("dblclick", (event) => {
    const [place, w] = at(event);
    const places = model.get("knots");
    if (indexOf(event.target) >= 0 || places.length >= 40) return;
    if (places.some((knot) => Math.abs(knot[0] - place) < 2e-3)) return;
    set([...places, [round(place, 4), round(w, 2)]].sort((a, b) => a[0] - b[0]));
  });
  svg.addEventListener("keydown", (event) => {
    const index = indexOf(event.target);
    if (index < 0) return;
    const [place, w] = model.get("knots")[index];
    const up = (model.get("high") - model.get("low")) / 100, aside = 1 / model.get("steps");
    const moves = { ArrowUp: [0, up], ArrowDown: [0, -up], ArrowLeft: [-aside, 0], ArrowRight: [aside, 0] };
    if (moves[event.key]) move(index, place + moves[event.key][0], w + moves[event.key][1]);
    else if (event.key === "Delete" || event.key === "Backspace") remove(index);
    else return;
    event.preventDefault();
    event.stopPropagation(); // the notebook has shortcuts of its own
  });

  const drawAll = () => {
    drawAxes();
    drawCurve();
  };
  const events = ["change:knots", "change:curve", "change:text"], axes = ["change:low", "change:high", "change:steps"];
  for (const name of events) model.on(name, drawCurve);
  for (const name of axes) model.on(name, drawAll);
  drawAll();
  return () => {
    for (const name of events) model.off(name, drawCurve);
    for (const name of axes) model.off(name, drawAll);
  };
}

export default { render };

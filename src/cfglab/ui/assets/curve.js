// A curve that is drawn by its knots. It reports the knots, (position from 0 to 1, scale), when one was moved.
const WIDTH = 400, HEIGHT = 200, LEFT = 30, RIGHT = 388, TOP = 12, BOTTOM = 178, SVG = "http://www.w3.org/2000/svg";
const knots = [[0, 7.5], [0.25, 6.5], [0.5, 4.5], [0.75, 2.5], [1, 1]];
let scaleTop = 10, held = -1;
const svg = element.querySelector(".cl-draw svg");
svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
const toX = (at) => LEFT + at * (RIGHT - LEFT), toY = (w) => BOTTOM - (w / scaleTop) * (BOTTOM - TOP);
const limit = (value, low, high) => Math.min(high, Math.max(low, value));

function make(name, attributes, text) {
  const node = document.createElementNS(SVG, name);
  Object.entries(attributes).forEach(([key, value]) => node.setAttribute(key, value));
  if (text !== undefined) node.textContent = text;
  svg.append(node);
  return node;
}

function draw(focus = -1) {
  svg.replaceChildren();
  for (let part = 0; part <= 4; part += 1) {
    const w = (scaleTop * part) / 4;
    make("path", { class: "grid", d: `M${LEFT} ${toY(w)}H${RIGHT}` });
    make("text", { x: LEFT - 6, y: toY(w) + 3.5, "text-anchor": "end" }, String(+w.toFixed(2)));
  }
  make("text", { x: LEFT, y: HEIGHT - 6 }, "first step");
  make("text", { x: RIGHT, y: HEIGHT - 6, "text-anchor": "end" }, "last step");
  make("path", { class: "line", d: knots.map(([at, w], index) => `${index ? "L" : "M"}${toX(at)} ${toY(w)}`).join("") });
  knots.forEach(([at, w], index) => {
    const dot = make("circle", {
      cx: toX(at), cy: toY(w), r: 7, tabindex: 0, role: "slider", "data-knot": index, "aria-valuemin": 0, "aria-valuemax": scaleTop,
      "aria-valuenow": w.toFixed(2), "aria-label": `Scale at ${Math.round(100 * at)} % of the run`,
    });
    if (index === held) dot.classList.add("held");
    if (index === focus) dot.focus();
  });
}

function place(event) {
  const box = svg.getBoundingClientRect();
  const x = ((event.clientX - box.left) / box.width) * WIDTH, y = ((event.clientY - box.top) / box.height) * HEIGHT;
  return [limit((x - LEFT) / (RIGHT - LEFT), 0, 1), limit(((BOTTOM - y) / (BOTTOM - TOP)) * scaleTop, 0, scaleTop)];
}

function move(index, at, w) {
  const last = knots.length - 1;
  const low = index === 0 ? 0 : knots[index - 1][0] + 0.01, high = index === last ? 1 : knots[index + 1][0] - 0.01;
  const position = index === 0 ? 0 : index === last ? 1 : limit(at, low, high);
  knots[index] = [+position.toFixed(3), +limit(w, 0, 100).toFixed(2)];
}

function report() {
  const highest = Math.max(...knots.map(([, w]) => w));
  scaleTop = highest > 0.97 * scaleTop ? Math.min(100, scaleTop * 1.5) : scaleTop;
  trigger("input", { knots });
}

svg.addEventListener("pointerdown", (event) => {
  const index = event.target.dataset?.knot;
  if (index === undefined) return;
  held = +index;
  svg.setPointerCapture(event.pointerId);
  draw(held);
  event.preventDefault();
});
svg.addEventListener("pointermove", (event) => {
  if (held < 0) return;
  move(held, ...place(event));
  draw(held);
});
svg.addEventListener("pointerup", () => {
  if (held < 0) return;
  const index = held;
  held = -1;
  report();
  draw(index);
});
svg.addEventListener("dblclick", (event) => {
  if (event.target.dataset?.knot !== undefined || knots.length >= 40) return;
  const [at, w] = place(event);
  const index = knots.findIndex(([other]) => other > at);
  if (index < 1) return;
  knots.splice(index, 0, [at, w]);
  move(index, at, w);
  report();
  draw(index);
});
svg.addEventListener("keydown", (event) => {
  const index = +(event.target.dataset?.knot ?? -1);
  if (index < 0) return;
  const [at, w] = knots[index], size = event.shiftKey ? 10 : 1;
  const moves = { ArrowUp: [0, 0.1], ArrowDown: [0, -0.1], ArrowLeft: [-0.01, 0], ArrowRight: [0.01, 0] };
  if (event.key in moves) move(index, at + size * moves[event.key][0], w + size * moves[event.key][1]);
  else if (event.key === "Delete" && index > 0 && index < knots.length - 1) knots.splice(index, 1);
  else return;
  event.preventDefault();
  report();
  draw(Math.min(index, knots.length - 1));
});
draw();

/* lines in SVG */
const svg = (tag, attributes = {}, text) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
};
const path = (values, x, y) => {
  let pen = "M";
  return values.map((value, index) => {
    if (value === null) { pen = "M"; return ""; }
    const point = `${pen}${x(index).toFixed(1)} ${y(value).toFixed(1)}`;
    pen = "L";
    return point;
  }).join("");
};
/* round numbers between two ends, about as many as asked for */
function ticks(low, high, count) {
  const raw = (high - low) / count, size = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((it) => it * size).find((it) => it >= raw * 0.999) ?? raw;
  const numbers = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-6; value += step) numbers.push(+value.toPrecision(8));
  return numbers;
}
/* curves of settings in one small box of 100 × 30, as on the cards */
function spark(settings) {
  const figure = svg("svg", { class: "spark", viewBox: "0 0 100 30", preserveAspectRatio: "none", "aria-hidden": "true" });
  figure.append(svg("path", { class: "base", d: data.settings[data.baseline].path }));
  for (const setting of settings) figure.append(svg("path", { d: data.settings[setting].path, style: `stroke: ${data.settings[setting].colour}` }));
  return figure;
}
/* several lines over the steps with three labels at the side: lines are {values, style} */
function chart(lines, { width = 320, height = 130, ends = true, floor = null, digits = 3, last = null } = {}) {
  const values = lines.flatMap((line) => line.values).filter((value) => value !== null);
  const figure = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart" });
  if (!values.length) return figure;
  let low = Math.min(...values, ...(floor === null ? [] : [floor])), high = Math.max(...values);
  if (high - low < 1e-9 * Math.abs(high) + 1e-12) [low, high] = [low - 0.5, high + 0.5];
  const length = Math.max(...lines.map((line) => line.values.length)), bottom = height - (ends ? 22 : 6), side = 44;
  const x = (index) => side + (width - side - 6) * index / Math.max(1, length - 1), y = (value) => bottom - (bottom - 8) * (value - low) / (high - low);
  for (const value of [low, (low + high) / 2, high]) {
    figure.append(svg("line", { x1: side, x2: width - 6, y1: y(value), y2: y(value) }));
    figure.append(svg("text", { x: side - 6, y: y(value) + 3.5, "text-anchor": "end" }, String(+value.toPrecision(digits)).replace("-", "−")));
  }
  if (ends) figure.append(svg("text", { x: side, y: height - 6 }, "step 1"), svg("text", { x: width - 6, y: height - 6, "text-anchor": "end" }, last ?? length));
  for (const line of lines) figure.append(svg("path", { d: path(line.values, x, y), style: line.style }));
  return figure;
}

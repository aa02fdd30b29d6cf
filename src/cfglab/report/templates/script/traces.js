/* what guidance did in every step of an image, beside the baseline's image of the same prompt and seed */
const TRACED = [
  ["w", "scale w", {}],
  ["difference", "‖cond − uncond‖", { floor: 0 }],
  ["cosine", "cosine of cond and uncond", { digits: 5 }],
  ["saved", "rows saved", { floor: 0 }],
];

function drawTraces(where, position) {
  const place = placeOf(position), setting = data.settings[place.setting];
  const other = place.setting === data.baseline ? null : traceOf(at(data.baseline, place.prompt, place.seed)), mine = traceOf(position);
  const colour = `stroke: ${setting.colour}`, dashed = "stroke: var(--accent); stroke-width: 1.2; stroke-dasharray: 4 4";
  if (!mine) {
    const lines = [{ values: setting.values, style: colour }];
    if (place.setting !== data.baseline) lines.unshift({ values: data.settings[data.baseline].values, style: dashed });
    where.replaceChildren(traced("scale w", lines, { floor: 1 }), element("p", "No trace of the steps was kept with this image.", "note"));
    return;
  }
  const total = (values) => +values.reduce((sum, value) => sum + (value ?? 0), 0).toFixed(1);
  const drawn = TRACED.map(([name, title, options]) => {
    const lines = [{ values: mine[name], style: colour }];
    if (other) lines.unshift({ values: other[name], style: dashed });
    return traced(name === "saved" ? `${title}: ${total(mine.saved)} of ${total(mine.saved.map((it, i) => it + mine.run[i]))}` : title, lines, { ...options, height: 92, ends: name === "saved", last: data.trace.step.at(-1) + 1 });
  });
  where.replaceChildren(...drawn);
}

function traced(title, lines, options) {
  const figure = element("figure", undefined, "traced"), drawn = chart(lines, options);
  drawn.setAttribute("role", "img");
  drawn.setAttribute("aria-label", `${title} over the steps`);
  figure.append(element("figcaption", title), drawn);
  return figure;
}

/* what guidance did in every step of an image, beside the baseline's image of the same prompt and seed */
const TRACED = [
  ["w", "scale w", {}],
  ["difference", "‖cond − uncond‖", { floor: 0 }],
  ["cosine", "cosine of cond and uncond", { digits: 5 }],
  ["saved", "rows saved", { floor: 0 }],
];

function drawTraces(where, position) {
  const place = placeOf(position), setting = data.settings[place.setting];
  const baseline = place.setting === data.baseline ? null : traceOf(at(data.baseline, place.prompt, place.seed)), own = traceOf(position);
  const colour = `stroke: ${setting.colour}`, dashed = "stroke: var(--accent); stroke-width: 1.2; stroke-dasharray: 4 4";
  if (!own) {
    const lines = [{ values: setting.values, style: colour }];
    if (place.setting !== data.baseline) lines.unshift({ values: data.settings[data.baseline].values, style: dashed });
    where.replaceChildren(traced("scale w", lines, { floor: 1 }), element("p", "No trace of the steps was kept with this image.", "note"));
    return;
  }
  const total = (values) => +values.reduce((sum, value) => sum + (value ?? 0), 0).toFixed(1);
  const figures = TRACED.map(([name, title, options]) => {
    const lines = [{ values: own[name], style: colour }];
    if (baseline) lines.unshift({ values: baseline[name], style: dashed });
    return traced(name === "saved" ? `${title}: ${total(own.saved)} of ${total(own.saved.map((it, i) => it + own.run[i]))}` : title, lines, { ...options, height: 92, ends: name === "saved", last: data.trace.step.at(-1) + 1 });
  });
  where.replaceChildren(...figures);
}

function traced(title, lines, options) {
  const figure = element("figure", undefined, "traced"), plot = chart(lines, options);
  plot.setAttribute("role", "img");
  plot.setAttribute("aria-label", `${title} over the steps`);
  figure.append(element("figcaption", title), plot);
  return figure;
}

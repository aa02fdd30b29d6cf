/* the images by their score: which one is shown, the order, and which ones are kept */
const LISTED = 48;
const scoring = { metric: Math.max(0, data.metrics.findIndex((metric) => metric.main)), order: "designed", keep: "all", least: null, most: null, scope: "all", start: 0 };

const byScore = (one, other) => {
  if (one === null || other === null) return (one === null) - (other === null);
  return scoring.order === "highest" ? other - one : one - other;
};
function passes(position) {
  const score = scoreOf(scoring.metric, position);
  if (data.metrics[scoring.metric]?.kind === "yes") return scoring.keep === "all" || (score !== null && (score > 0.5) === (scoring.keep === "yes"));
  if (scoring.least === null && scoring.most === null) return true;
  return score !== null && score >= (scoring.least ?? -Infinity) && score <= (scoring.most ?? Infinity);
}
/* every cell that has a score, or, where nothing was measured, an image */
function candidates() {
  const matches = [], scored = data.metrics.length > 0;
  for (let position = 0; position < S * P * Q; position++) {
    if (scoring.scope === "prompt" && Math.floor(position / Q) % P !== chosen.prompt) continue;
    if (scored ? scoreOf(scoring.metric, position) === null : !pages && !fileOf(position)) continue;
    if (passes(position)) matches.push(position);
  }
  if (scoring.order === "designed") return matches;
  const values = data.scores[scoring.metric];
  return matches.sort((one, other) => byScore(values[one], values[other]) || one - other);
}
function showList() {
  const request = ++looking;
  withCells([], () => {
    if (request !== looking) return;
    const matches = candidates();
    scoring.start = Math.min(scoring.start, LISTED * Math.floor(Math.max(0, matches.length - 1) / LISTED));
    const shown = matches.slice(scoring.start, scoring.start + LISTED);
    withCells(shown, () => {
      if (request !== looking) return;
      const list = element("div", undefined, "listed");
      for (const position of shown) {
        const item = element("div"), name = element("span", nameOf(position), "label");
        name.title = name.textContent;
        item.append(...tile(position), name);
        list.append(item);
      }
      if (!shown.length) list.append(element("p", lost() || "No image has such a score.", "note"));
      byId("pictures").replaceChildren(list);
    });
    pageOfList(matches.length);
  }, { pictures: false });
}
function pageOfList(count) {
  const where = byId("pager-columns"), turn = (by, text, label) => {
    const button = element("button", text);
    button.type = "button";
    button.disabled = scoring.start + by < 0 || scoring.start + by >= count;
    button.setAttribute("aria-label", label);
    button.dataset.hold = text;
    button.addEventListener("click", () => { scoring.start += by; showList(); });
    return button;
  };
  where.hidden = false;
  byId("pager-rows").hidden = true;
  const last = Math.min(count, scoring.start + LISTED);
  const text = element("span", count ? `${(scoring.start + 1).toLocaleString("en")} to ${last.toLocaleString("en")} of ${count.toLocaleString("en")} images` : "no images");
  rebuild(where, turn(-LISTED, "‹", "earlier images"), text, turn(LISTED, "›", "later images"));
}

/* the cards of the page: each shows its setting's image of the chosen prompt and seed */

/* the scores of the one image shown: what the classifier missed, then the other numbers */
function own(position) {
  const line = document.createDocumentFragment();
  const scored = data.metrics.map((metric, index) => [metric, scoreOf(index, position)]).filter(([, value]) => value !== null);
  const yesNo = scored.filter(([metric]) => metric.kind === "yes"), numbers = scored.filter(([metric]) => metric.kind !== "yes");
  if (yesNo.length) {
    const missed = yesNo.filter(([metric, value]) => value < 0.5 && metric.part).map(([metric]) => metric.title.toLowerCase());
    const right = yesNo.every(([, value]) => value > 0.5);
    line.append(element("span", right ? "✓ as asked" : `✗ ${missed.join(", ") || "not as asked"}`, right ? "yes" : "no"));
  }
  const text = numbers.map(([metric, value]) => `${metric.title.toLowerCase()} ${spelled(value, metric.kind)}`).join(" · ");
  if (text) line.append(element("span", text));
  return line;
}

function showCards() {
  const cards = all(".card"), requested = chosen.prompt * Q + chosen.seed;
  withCells(cards.map((card) => at(+card.dataset.setting)), () => {
    if (requested !== chosen.prompt * Q + chosen.seed) return;  // another one was chosen meanwhile
    for (const card of cards) {
      fill(card.querySelector(".picture"), at(+card.dataset.setting));
      card.querySelector(".own").replaceChildren(own(at(+card.dataset.setting)));
    }
  });
  byId("seed").value = chosen.seed;
  if (byId("prompt")) byId("prompt").value = chosen.prompt;
}

/* choose another prompt or seed: cards and grid follow, and so does the large view */
function choose(place) {
  Object.assign(chosen, place);
  showCards();
  explore();
}
const stepSeed = (by) => choose({ seed: (chosen.seed + by + Q) % Q });

byId("seed").addEventListener("change", (event) => choose({ seed: +event.target.value }));
byId("prompt")?.addEventListener("change", (event) => choose({ prompt: +event.target.value }));
document.addEventListener("click", (event) => {
  const card = event.target.closest(".card .picture")?.closest(".card");
  if (card) openLarge(at(+card.dataset.setting));
  const seed = event.target.closest("[data-step]");
  if (seed) stepSeed(+seed.dataset.step);
});

/* a curve lights up under the pointer's setting */
for (const spot of all(".chip, .group .card")) {
  const group = spot.closest("section");
  spot.addEventListener("pointerenter", () => {
    group.classList.add("dim");
    all(`.curve[data-setting="${spot.dataset.setting}"]`, group).forEach((curve) => curve.classList.add("lit"));
  });
  spot.addEventListener("pointerleave", () => {
    group.classList.remove("dim");
    all(".lit", group).forEach((curve) => curve.classList.remove("lit"));
  });
}

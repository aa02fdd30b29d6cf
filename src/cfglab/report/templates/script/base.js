"use strict";
/* what the page was given, and small words that every part uses */
const data = JSON.parse(document.getElementById("data").textContent);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const byId = (id) => document.getElementById(id);
const S = data.settings.length, P = data.prompts.length, Q = data.seeds.length;
const chosen = { prompt: 0, seed: 0 };

const at = (setting, prompt = chosen.prompt, seed = chosen.seed) => (setting * P + prompt) * Q + seed;
const placeOf = (position) => ({ setting: Math.floor(position / (P * Q)), prompt: Math.floor(position / Q) % P, seed: position % Q });

function element(tag, text, kind) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (kind) node.className = kind;
  return node;
}
function option(value, text) {
  const node = element("option", text);
  node.value = value;
  return node;
}
/* other controls in the place of these; the keyboard stays on the one it was on */
function rebuild(where, ...children) {
  const focused = where.contains(document.activeElement) ? document.activeElement.dataset.hold : undefined;
  where.replaceChildren(...children);
  if (focused !== undefined) all("[data-hold]", where).find((node) => node.dataset.hold === focused)?.focus();
}
function spelled(value, kind) {
  if (value === null || value === undefined) return "–";
  if (kind === "yes") return value > 0.5 ? "yes" : "no";
  if (Math.abs(value) >= 1e7) return value.toPrecision(3).replace("-", "−");
  if (kind === "dose") return value.toFixed(2).replace("-", "−");
  return (kind === "share" ? `${+(100 * value).toFixed(1)}\u202f%` : String(+value.toPrecision(3))).replace("-", "−");
}
/* a mean of yes and no is a share */
const spelledMean = (value, kind) => spelled(value, kind === "yes" ? "share" : kind);
const quoted = (text) => /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`;
const titleOf = (setting) => data.settings[setting].title;

/* the setting, the prompt where there are several, the seed */
function nameOf(position) {
  const place = placeOf(position), group = data.settings[place.setting].group;
  const parts = [group === "baseline" ? `${titleOf(place.setting)} (baseline)` : titleOf(place.setting)];
  if (P > 1) parts.push(data.prompts[place.prompt]);
  parts.push(`seed ${data.seeds[place.seed]}`);
  return parts.join(" · ");
}

/* the page of `cfglab show`: it asks /state again and again, and shows every text as text */
const LOOK_EVERY = 1000;
const byId = (id) => document.getElementById(id);
const token = document.querySelector("meta[name=token]").content;
const WORDS = { gone: "ended", damaged: "unreadable" };
let reported = false;
let shownImages = "";

function put(id, text) {
  if (byId(id).textContent !== text) byId(id).textContent = text;
}

function say(text, fault = false) {
  byId("message").hidden = !text;
  byId("message").classList.toggle("fault", fault);
  put("message", text);
}

function cell(text, name) {
  const element = document.createElement("td");
  element.textContent = text;
  if (name) element.className = name;
  return element;
}

function rows(section, lines) {
  byId(section).hidden = !lines.length;
  byId(section).querySelector("tbody").replaceChildren(...lines.map((cells) => {
    const row = document.createElement("tr");
    row.append(...cells);
    return row;
  }));
}

function tile(image) {
  const link = document.createElement("a");
  const picture = document.createElement("img");
  const setting = document.createElement("b");
  const prompt = document.createElement("span");
  const seed = document.createElement("span");
  link.href = picture.src = image.image;
  link.target = "_blank";
  link.rel = "noopener";
  picture.alt = `${image.setting}, ${image.prompt}, seed ${image.seed}`;
  setting.textContent = link.title = image.setting;
  prompt.textContent = prompt.title = image.prompt;
  seed.textContent = `seed ${image.seed}`;
  link.append(picture, setting, prompt, seed);
  return link;
}

function showImages(images) {
  const key = images.map((image) => image.image).join();
  if (key === shownImages) return;
  shownImages = key;
  byId("none").hidden = images.length > 0;
  const before = new Map([...byId("images").children].map((link) => [link.getAttribute("href") + link.title, link]));
  byId("images").replaceChildren(...images.map((image) => before.get(image.image + image.setting) ?? tile(image)));
}

function show(state) {
  put("title", state.title || "cfglab show");
  document.title = state.total ? `${state.done + state.failed}/${state.total} · ${state.title}` : "cfglab show";
  put("folder", [state.folder, state.model].filter(Boolean).join(" · "));
  put("state", WORDS[state.state] ?? state.state);
  byId("state").className = `chip ${state.state}`;
  const share = (count) => `${state.total ? (100 * count) / state.total : 0}%`;
  byId("done").style.width = share(state.done);
  byId("bad").style.width = share(state.failed);
  const bar = document.querySelector(".bar");
  bar.setAttribute("aria-valuemax", state.total);
  bar.setAttribute("aria-valuenow", state.done + state.failed);
  const failed = state.failed ? `, ${state.failed} failed` : "";
  put("counts", state.total ? `${state.done} of ${state.total} images${failed}` : "");
  put("left", state.left);
  put("sentence", state.sentence);
  byId("stop").hidden = !state.may_stop;
  byId("continue").hidden = !state.may_continue;
  rows("crew", state.workers.map((worker) => [cell(worker.number), cell(worker.node || "–"), cell(worker.state), cell(worker.images, "number")]));
  rows("failed", state.failures.map((it) => [cell(it.setting), cell(it.prompt), cell(it.seed, "number"), cell(it.error ?? "", "error")]));
  byId("more-failed").hidden = state.failed <= state.failures.length;
  put("more-failed", `${state.failed - state.failures.length} more are in results.csv.`);
  showImages(state.images);
  reported = state.report;
  byId("tab-report").disabled = byId("alone").hidden = !reported;
}

async function look() {
  try {
    const answer = await fetch("state");
    if (!answer.ok) throw new Error(await answer.text());
    show(await answer.json());
    if (byId("message").dataset.lost) say("");
    delete byId("message").dataset.lost;
  } catch {
    say("The server does not answer; start cfglab show again. This page goes on by itself then, or load it again.", true);
    byId("message").dataset.lost = "yes";
  }
}

async function act(button) {
  button.disabled = true;
  try {
    const answer = await fetch(button.id, { method: "POST", headers: { "X-Cfglab-Token": token } });
    say(await answer.text(), !answer.ok);
    await look();
  } catch {
    say("The server does not answer; start cfglab show again.", true);
  }
  button.disabled = false;
}

function choose(name) {
  for (const view of ["live", "report"]) {
    const chosen = view === name;
    byId(view).hidden = !chosen;
    byId(`tab-${view}`).setAttribute("aria-selected", chosen);
    byId(`tab-${view}`).tabIndex = chosen ? 0 : -1;
  }
  if (name === "report" && !byId("report").children.length) {
    const frame = document.createElement("iframe");
    frame.title = "Report";
    frame.sandbox = "allow-scripts allow-popups allow-downloads";
    frame.src = "report.html";
    byId("report").append(frame);
  }
}

for (const name of ["stop", "continue"]) byId(name).addEventListener("click", () => act(byId(name)));
for (const name of ["live", "report"]) {
  byId(`tab-${name}`).addEventListener("click", () => choose(name));
  byId(`tab-${name}`).addEventListener("keydown", (event) => {
    const next = { live: "report", report: "live" }[name];
    if (!["ArrowLeft", "ArrowRight"].includes(event.key) || byId(`tab-${next}`).disabled) return;
    choose(next);
    byId(`tab-${next}`).focus();
  });
}
look();
setInterval(look, LOOK_EVERY);

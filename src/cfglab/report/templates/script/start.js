/* the page itself: light or dark, commands to copy, and the first look */
byId("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try { localStorage.setItem("cfglab-theme", root.dataset.theme); } catch { /* the choice lasts as long as the page */ }
});
async function copied(button) {
  const code = button.parentElement.querySelector("code");
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "copied";
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  } catch {
    getSelection().selectAllChildren(code);
  }
}
document.addEventListener("click", (event) => {
  const button = event.target.closest(".copy");
  if (button) copied(button);
});
/* a page of a run that continues looks for a newer one: `report.js` beside it calls cfglab("version", 0, …) */
const LOOK_EVERY = 4000;
let polling = data.live ? setInterval(lookForNewer, LOOK_EVERY) : 0;
function lookForNewer() {
  const script = document.createElement("script");
  script.src = `report.js?${Date.now()}`;
  script.onload = script.onerror = () => script.remove();
  document.head.append(script);
}
function offer(version) {
  if (!polling || version === document.querySelector("meta[name=version]").content) return;
  clearInterval(polling);
  polling = 0;
  byId("newer").hidden = false;
}
if (data.live) byId("newer").querySelector("button").addEventListener("click", () => location.reload());
if (P * Q < 2) byId("picker").hidden = true;
if (Q < 2) all(".seed").forEach((part) => { part.hidden = true; });
settle();
choose({});

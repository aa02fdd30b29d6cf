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
if (P * Q < 2) byId("picker").hidden = true;
if (Q < 2) all(".seed").forEach((part) => { part.hidden = true; });
settle();
choose({});

// Two images in one place: beside each other, under a slider, or flickering twice a second.
let timer = 0, mode = "beside";

function show() {
  const pair = element.querySelector(".cl-pair");
  clearInterval(timer);
  if (!pair) return;
  pair.dataset.mode = mode;
  pair.classList.remove("second");
  pair.querySelectorAll("[data-mode]").forEach((button) => {
    button.setAttribute("aria-pressed", String(button.dataset.mode === mode));
  });
  if (mode === "flicker") timer = setInterval(() => element.querySelector(".cl-pair")?.classList.toggle("second"), 500);
}

element.addEventListener("click", (event) => {
  const button = event.target.closest(".cl-modes button");
  if (!button) return;
  mode = button.dataset.mode;
  show();
});
element.addEventListener("input", (event) => {
  if (event.target.matches(".cl-cut")) event.target.closest(".cl-pair").style.setProperty("--cut", `${event.target.value}%`);
});
watch("value", show);

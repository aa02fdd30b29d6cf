// Two images that take turns in one place.
function render({ model, el }) {
  const root = document.createElement("div");
  root.className = "cfglab-flicker";
  const stage = document.createElement("button");
  stage.className = "stage";
  stage.type = "button";
  const images = [document.createElement("img"), document.createElement("img")];
  stage.append(...images);
  const bar = document.createElement("div");
  bar.className = "bar";
  const buttons = ["", "", ""].map(() => {
    const button = document.createElement("button");
    button.type = "button";
    return button;
  });
  bar.append(...buttons);
  root.append(stage, bar);
  el.append(root);
  const addresses = [null, null];
  let timer = null;

  const show = (index) => {
    model.set("shown", index);
    model.save_changes();
    drawState();
  };
  const play = (playing) => {
    model.set("playing", playing);
    model.save_changes();
    start();
  };

  function load() {
    ["first", "second"].forEach((name, index) => {
      if (addresses[index]) URL.revokeObjectURL(addresses[index]);
      addresses[index] = URL.createObjectURL(new Blob([model.get(name)], { type: "image/png" }));
      images[index].src = addresses[index];
    });
    const width = model.get("width"), times = Math.max(1, Math.ceil(192 / width));
    stage.style.width = `${times * width}px`;
    for (const image of images) image.style.imageRendering = times > 1 ? "pixelated" : "auto";
  }

  function drawState() {
    const shown = model.get("shown"), labels = model.get("labels"), playing = model.get("playing");
    images.forEach((image, index) => {
      image.style.visibility = index === shown ? "visible" : "hidden";
      image.alt = labels[index];
    });
    buttons[0].textContent = playing ? "pause" : "play";
    labels.forEach((label, index) => {
      buttons[index + 1].textContent = label;
      buttons[index + 1].setAttribute("aria-pressed", String(index === shown));
    });
    stage.setAttribute("aria-label", `${labels[shown]}; ${playing ? "stop" : "start"} taking turns`);
  }

  function start() {
    clearInterval(timer);
    timer = null;
    if (model.get("playing")) {
      timer = setInterval(() => {
        model.set("shown", 1 - model.get("shown")); // not saved: Python learns of the image that was chosen
        drawState();
      }, model.get("interval"));
    }
    drawState();
  }

  const choose = (index) => {
    play(false);
    show(index);
  };
  stage.addEventListener("click", () => play(!model.get("playing")));
  buttons[0].addEventListener("click", () => play(!model.get("playing")));
  buttons[1].addEventListener("click", () => choose(0));
  buttons[2].addEventListener("click", () => choose(1));
  root.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    choose(event.key === "ArrowLeft" ? 0 : 1);
    event.preventDefault();
    event.stopPropagation(); // the notebook has shortcuts of its own
  });

  const listeners = { "change:first": load, "change:second": load, "change:width": load, "change:labels": drawState };
  Object.assign(listeners, { "change:shown": drawState, "change:playing": start, "change:interval": start });
  for (const [name, listener] of Object.entries(listeners)) model.on(name, listener);
  load();
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) play(false);
  else start();
  return () => {
    clearInterval(timer);
    addresses.forEach((address) => URL.revokeObjectURL(address));
    for (const [name, listener] of Object.entries(listeners)) model.off(name, listener);
  };
}

export default { render };

// Completion of the words of a guidance in every text box of class cl-complete.
(() => {
  let popup = null, box = null, words = [], chosen = 0, start = 0;

  const field = (target) => target?.matches?.("textarea, input") && target.closest(".cl-complete") ? target : null;

  function candidates(text) {
    const { schedules, transforms, words: methods } = window.cfglabWords;
    const line = text.slice(text.lastIndexOf("\n") + 1);
    let depth = 0, owner = "";
    for (let at = line.length - 1; at >= 0; at -= 1) {
      if (line[at] === ")") depth += 1;
      if (line[at] === "(") {
        if (depth === 0) { owner = (line.slice(0, at).match(/([A-Za-z_]\w*)$/) || [""])[0]; break; }
        depth -= 1;
      }
    }
    if (owner && /[(,]\s*\w*$/.test(line)) {
      return (schedules[owner] || transforms[owner] || []).map((name) => ({ name, insert: `${name}=` }));
    }
    if (owner) return [];
    const call = (name) => ({ name, insert: `${name}(` });
    if (/\.\s*\w*$/.test(line) && !/\d\.\d*$/.test(line)) return methods.map(call);
    return Object.keys(/\|[^|]*$/.test(line) ? transforms : schedules).map(call);
  }

  function close() { popup?.remove(); popup = null; box?.removeAttribute("aria-activedescendant"); }

  function mark() {
    [...popup.children].forEach((item, index) => item.setAttribute("aria-selected", String(index === chosen)));
    popup.children[chosen].scrollIntoView({ block: "nearest" });
    box.setAttribute("aria-activedescendant", `cl-word-${chosen}`);
  }

  function open(target) {
    close();
    const before = target.value.slice(0, target.selectionStart);
    const token = (before.match(/[A-Za-z_]\w*$/) || [""])[0];
    if (!token) return;
    start = before.length - token.length;
    words = candidates(before).filter(({ name }) => name.startsWith(token) && name !== token).slice(0, 40);
    if (!words.length) return;
    box = target;
    chosen = 0;
    popup = document.createElement("ul");
    popup.className = `cl-popup ${document.body.classList.contains("dark") ? "dark" : ""}`;
    popup.setAttribute("role", "listbox");
    words.forEach(({ name }, index) => {
      const item = document.createElement("li");
      item.id = `cl-word-${index}`;
      item.setAttribute("role", "option");
      item.textContent = name;
      item.addEventListener("pointerdown", (event) => { event.preventDefault(); chosen = index; accept(); });
      popup.append(item);
    });
    document.body.append(popup);
    const place = target.getBoundingClientRect();
    popup.style.left = `${Math.min(place.left + scrollX + 8, innerWidth - popup.offsetWidth - 8)}px`;
    popup.style.top = `${place.bottom + scrollY + 2}px`;
    mark();
  }

  function accept() {
    const { insert } = words[chosen], end = box.selectionStart, target = box;
    const value = target.value.slice(0, start) + insert + target.value.slice(end);
    const prototype = target.tagName === "TEXTAREA" ? HTMLTextAreaElement.prototype : HTMLInputElement.prototype;
    Object.getOwnPropertyDescriptor(prototype, "value").set.call(target, value);
    target.setSelectionRange(start + insert.length, start + insert.length);
    close();
    target.dispatchEvent(new InputEvent("input", { bubbles: true, inputType: "insertReplacementText" }));
  }

  document.addEventListener("input", (event) => {
    const target = field(event.target);
    if (target && event.inputType !== "insertReplacementText") open(target);
  });
  document.addEventListener("keydown", (event) => {
    if (!popup || event.target !== box) return;
    const keys = { ArrowDown: 1, ArrowUp: -1 };
    if (event.key in keys) {
      chosen = (chosen + keys[event.key] + words.length) % words.length;
      mark();
    } else if (event.key === "Tab") accept();
    else if (event.key === "Escape") close();
    else if (event.key === "Enter") { close(); return; }
    else return;
    event.preventDefault();
    event.stopPropagation();
  }, true);
  document.addEventListener("focusout", (event) => { if (event.target === box) close(); });
})();

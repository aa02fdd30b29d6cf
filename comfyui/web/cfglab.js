// The one line that says what is wrong with a text, under the text, while it is typed.
import { app } from "/scripts/app.js";
import { api } from "/scripts/api.js";

const TEXTS = { CfglabGuidance: "guidance", CfglabGuidanceList: "guidances", CfglabSchedule: "schedule" };
const PAUSE = 250; // milliseconds after the last key

async function faultOf(node, text) {
  const response = await api.fetchApi(`/cfglab/check?node=${node}`, { method: "POST", body: text });
  return response.ok ? (await response.json()).fault : "";
}

app.registerExtension({
  name: "cfglab.check",
  nodeCreated(node) {
    const widget = node.widgets?.find((each) => each.name === TEXTS[node.comfyClass]);
    if (!widget) return;
    const line = document.createElement("div");
    line.className = "cfglab-fault";
    line.style.cssText = "color: #ff6b6b; font: 12px sans-serif; overflow: hidden auto; overflow-wrap: anywhere";
    const shown = node.addDOMWidget("cfglab_fault", "cfglab_fault", line, {
      serialize: false, getMinHeight: () => 34, getMaxHeight: () => 34,
    });
    shown.serializeValue = () => undefined;
    let waiting, asked = 0;
    const check = () => {
      clearTimeout(waiting);
      waiting = setTimeout(async () => {
        const number = ++asked;
        const fault = await faultOf(node.comfyClass, String(widget.value ?? ""));
        if (number === asked) line.textContent = fault;
      }, PAUSE);
    };
    const before = widget.callback;
    widget.callback = function (...args) {
      check();
      return before?.apply(this, args);
    };
    (widget.element ?? widget.inputEl)?.addEventListener("input", check);
    check();
  },
});

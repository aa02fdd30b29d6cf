// The scripts of the report are joined into one script in the page, in this order: a name that one file defines is a
// global of the others. npx eslint (with `npm install --no-save eslint @eslint/js globals`) reads this file.
import fs from "node:fs";
import path from "node:path";
import js from "@eslint/js";
import globals from "globals";

const folder = "src/cfglab/report/templates/script";
const defined = fs
  .readdirSync(folder)
  .map((file) => fs.readFileSync(path.join(folder, file), "utf8"))
  .flatMap((text) => [...text.matchAll(/^(?:const|let|function|class)\s+(?:\{([^}]*)\}|(\w+))((?:\s*=[^;]*?,\s*\w+\s*=)*)/gm)])
  .flatMap((match) => (match[1] ?? match[2]).split(",").map((name) => name.trim().split(/[:\s]/)[0]))
  .concat(["P", "Q"]);

const strict = {
  eqeqeq: "error",
  "no-var": "error",
  "prefer-const": "error",
  "no-eval": "error",
  "no-implied-eval": "error",
  "no-new-func": "error",
};

export default [
  {
    files: [`${folder}/*.js`],
    languageOptions: {
      ecmaVersion: 2022,
      sourceType: "script",
      globals: { ...globals.browser, ...Object.fromEntries(defined.map((name) => [name, "writable"])) },
    },
    rules: {
      ...js.configs.recommended.rules,
      "no-redeclare": "off", // each file defines its own globals
      "no-unused-vars": ["error", { vars: "local", args: "after-used", caughtErrors: "none" }],
      ...strict,
    },
  },
  {
    files: ["src/cfglab/widgets/*.js", "comfyui/web/*.js"], // modules that anywidget and ComfyUI load
    languageOptions: { ecmaVersion: 2022, sourceType: "module", globals: globals.browser },
    rules: { ...js.configs.recommended.rules, ...strict },
  },
  {
    files: ["src/cfglab/viewer/assets/*.js"],
    languageOptions: { ecmaVersion: 2022, sourceType: "script", globals: globals.browser },
    rules: { ...js.configs.recommended.rules, ...strict },
  },
  {
    files: ["src/cfglab/ui/assets/*.js"], // Gradio runs each with `element`, its component
    languageOptions: { ecmaVersion: 2022, sourceType: "script", globals: { ...globals.browser, element: "readonly", watch: "readonly", trigger: "readonly", props: "readonly" } },
    rules: { ...js.configs.recommended.rules, ...strict },
  },
];

// The files of a new run: typed into an editor, chosen, or dropped, folders too.
import { html, useEffect, useRef, useState } from "./preact.js";
import { bytes, visible } from "./format.js";
import { style } from "./lazy.js";

const MOST_TEXT = 1024 * 1024;
const MODES = { py: "python", js: "javascript", mjs: "javascript", json: { name: "javascript", json: true }, ts: { name: "javascript", typescript: true }, sh: "shell", bash: "shell" };

let editor;
function loadEditor() {
  style("console/codemirror.css");
  editor ??= import("./codemirror.js")
    .then(() => Promise.all(["python", "javascript", "shell"].map((mode) => import(`./codemirror-${mode}.js`))))
    .then(() => globalThis.CodeMirror)
    .catch(() => undefined);
  return editor;
}

async function read(path, blob) {
  if (blob.size <= MOST_TEXT) {
    try {
      const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(await blob.arrayBuffer());
      if (!text.includes("\u0000")) return { path, text };
    } catch {
      // Not text: it is sent as it is.
    }
  }
  return { path, blob };
}

// Every file below an entry of a drop, with its path.
async function walk(entry, prefix = "") {
  if (entry.isFile) return [await read(prefix + entry.name, await new Promise((done, fail) => entry.file(done, fail)))];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    // It gives its entries a hundred at a time.
    const some = await new Promise((done, fail) => reader.readEntries(done, fail));
    if (!some.length) return found;
    for (const each of some) found.push(...(await walk(each, `${prefix}${entry.name}/`)));
  }
}

function Editor({ file, change }) {
  const place = useRef();
  const made = useRef();
  useEffect(() => {
    let gone = false;
    loadEditor().then((CodeMirror) => {
      if (gone) return;
      if (!CodeMirror) {
        const area = Object.assign(document.createElement("textarea"), { value: file.text, rows: 8 });
        area.setAttribute("aria-label", `Content of ${visible(file.path)}`);
        area.addEventListener("input", () => change(area.value));
        place.current.append(area);
        return;
      }
      made.current = CodeMirror(place.current, {
        value: file.text, mode: MODES[file.path.split(".").at(-1)] ?? null, lineNumbers: true, viewportMargin: 50,
        screenReaderLabel: `Content of ${visible(file.path)}`,
        // The keyboard has to get out again.
        extraKeys: { Tab: false, "Shift-Tab": false },
      });
      made.current.on("change", () => change(made.current.getValue()));
    });
    return () => {
      gone = true;
      place.current?.replaceChildren();
    };
  }, []);
  useEffect(() => {
    made.current?.setOption("mode", MODES[file.path.split(".").at(-1)] ?? null);
  }, [file.path]);
  return html`<div class="editor" ref=${place}></div>`;
}

let count = 0;
const identified = (file) => ({ ...file, key: (count += 1) });

export function Files({ files, set, faults }) {
  const [over, setOver] = useState(false);
  const add = (found) => {
    const names = new Set(found.map((file) => file.path));
    set((known) => [...known.filter((file) => !names.has(file.path)), ...found.map(identified)]);
  };
  const dropped = async (event) => {
    event.preventDefault();
    setOver(false);
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
    add((await Promise.all(entries.map((entry) => walk(entry)))).flat());
  };
  const chosen = async (event) => {
    const picked = [...event.target.files];
    event.target.value = "";
    add(await Promise.all(picked.map((file) => read(file.webkitRelativePath || file.name, file))));
  };
  const change = (key, values) => set((known) => known.map((file) => (file.key === key ? { ...file, ...values } : file)));
  return html`<fieldset class=${over ? "files over" : "files"} onDragOver=${(event) => {
      event.preventDefault();
      setOver(true);
    }} onDragLeave=${() => setOver(false)} onDrop=${dropped}>
    <legend>Files</legend>
    <p class="soft">Drop files or folders here, choose them, or write one.</p>
    <p class="buttons"><button type="button" onClick=${() => add([{ path: `file${files.length + 1}.txt`, text: "" }])}>New file</button>
      <label class="choose">Choose files <input type="file" multiple onChange=${chosen} /></label>
      <label class="choose">Choose a folder <input type="file" webkitdirectory onChange=${chosen} /></label></p>
    ${faults.map((fault) => html`<p class="error" role="alert">${visible(fault)}</p>`)}
    ${files.map((file) => html`<div class="file" key=${file.key}>
      <div class="name"><input aria-label="Path of the file" value=${file.path} onInput=${(event) => change(file.key, { path: event.target.value })} />
        ${file.blob && html`<span class="soft">${bytes(file.blob.size)}</span>`}
        <button type="button" onClick=${() => set((known) => known.filter((each) => each.key !== file.key))}>Remove</button></div>
      ${file.blob === undefined && html`<${Editor} file=${file} change=${(text) => change(file.key, { text })} />`}
    </div>`)}
  </fieldset>`;
}

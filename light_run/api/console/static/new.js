// The form for a new run, and the same request for curl, the command line and Python beside it.
import { html, useEffect, useState } from "./preact.js";
import { get, send } from "./api.js";
import { Files } from "./files.js";
import { visible } from "./format.js";
import { EMPTY, again, body, cli, curl, py } from "./request.js";
import { go, useLocation } from "./router.js";

// What was asked for in this tab, with files and environment, so that it can be run again.
const asked = new Map();

const FORMS = { curl, "Command line": cli, Python: py };

// A field with its label, and with the faults that the API found in it.
function Field({ name, label, hint, rows, form, set, faults }) {
  const found = faults[name] ?? [];
  const id = `field-${name}`;
  const shared = {
    id, name, value: form[name], spellcheck: false, autocomplete: "off", "aria-invalid": found.length > 0,
    "aria-describedby": `${id}-hint`, onInput: (event) => set((known) => ({ ...known, [name]: event.target.value })),
  };
  return html`<div class="field"><label for=${id}>${label}</label>
    ${rows ? html`<textarea rows=${rows} ...${shared}></textarea>` : html`<input ...${shared} />`}
    <span class="soft" id=${`${id}-hint`}>${hint}</span>
    ${found.map((fault) => html`<p class="error" role="alert">${visible(fault)}</p>`)}
  </div>`;
}

// The faults of an error by the field that shows them; those of no field are under "".
function byField(error) {
  const found = {};
  for (const { path, message } of error.details) {
    const [first, second] = path.map(String);
    const name = first === "limits" && second in EMPTY ? second : first in EMPTY ? first : "";
    (found[name] ??= []).push(message);
  }
  if (!error.details.length) found[""] = [error.message];
  return found;
}

function Same({ form, secured }) {
  const [shown, show] = useState("curl");
  const [copied, setCopied] = useState("");
  const text = FORMS[shown](form, secured);
  const copy = async () => {
    await navigator.clipboard?.writeText(text);
    setCopied(navigator.clipboard ? "Copied." : "This page may not copy; select the text.");
  };
  return html`<section class="same" aria-labelledby="same"><h2 id="same">The same request</h2>
    <div class="buttons">${Object.keys(FORMS).map((name) => html`<button type="button" key=${name} aria-pressed=${name === shown} onClick=${() => show(name)}>${name}</button>`)}
      <button type="button" onClick=${copy}>Copy</button><span role="status" class="soft">${copied}</span></div>
    <pre tabindex="0" aria-label=${`The request for ${shown}`}><code>${text}</code></pre></section>`;
}

export function NewRun({ info }) {
  const { query } = useLocation();
  const from = query.get("again");
  const [form, set] = useState(EMPTY);
  const [missing, setMissing] = useState([]);
  const [faults, setFaults] = useState({});
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    if (!from) return;
    if (asked.has(from)) {
      set(asked.get(from));
      return;
    }
    get(`runs/${encodeURIComponent(from)}?request=true`).then(
      (run) => {
        const found = again(run);
        set(found.form);
        setMissing(found.missing);
      },
      (error) => setFaults({ "": [error.message] }),
    );
  }, [from]);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setFaults({});
    try {
      const content = body(form);
      // With a key, a request that got no response can be sent again. A form cannot: each time it has other boundaries.
      const key = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
      const headers = typeof content === "string" ? { "Content-Type": "application/json", "Idempotency-Key": key } : {};
      const { id } = await (await send("run", { method: "POST", body: content, headers })).json();
      asked.set(id, form);
      go(["runs", id]);
    } catch (error) {
      setFaults(byField(error));
      setBusy(false);
    }
  };
  const field = (name, label, hint, rows) => html`<${Field} key=${name} ...${{ name, label, hint, rows, form, set, faults }} />`;
  return html`<h1>New run</h1>
    ${missing.length > 0 && html`<p class="remedy" role="status">The server does not keep ${visible(missing.join(", "))}: give them again.</p>`}
    <div class="new"><form onSubmit=${submit}>
      ${field("image", "Image", "such as python:3.12-alpine")}
      ${field("entrypoint", "Command", "executed by sh -c; empty: the image's own", 3)}
      <${Files} files=${form.files} set=${(change) => set((known) => ({ ...known, files: change(known.files) }))} faults=${faults.files ?? []} />
      ${field("extract", "Extract", "paths or patterns to keep as artifacts, one a line", 2)}
      ${field("env", "Environment", "NAME=value, one a line", 2)}
      <details><summary>More</summary>
        ${field("run", "Steps", "shell commands that are built into the image first, one a line", 2)}
        ${field("stdin", "Standard input", "what the command reads", 2)}
        ${field("network", "Network", "none, bridge or a name; empty: the isolated network")}
        ${field("timeout", "Timeout", "seconds")}${field("memory", "Memory", "such as 256m")}${field("cpus", "CPUs", "such as 0.5")}
        ${field("pids", "Processes", "how many at once")}${field("workdir", "Working directory", "/app where it is empty")}
        ${field("labels", "Labels", "key=value, one a line", 2)}
      </details>
      ${(faults[""] ?? []).map((fault) => html`<p class="error" role="alert">${visible(fault)}</p>`)}
      <button class="primary" disabled=${busy}>Run</button>
    </form><${Same} form=${form} secured=${info.token.required} /></div>`;
}

// The table of runs. Filters and page are in the URL; the newest come first, and it is live.
import { html, useEffect, useRef } from "./preact.js";
import { get } from "./api.js";
import { ago, command, local, reason, shortened, took, visible } from "./format.js";
import { useLive, useNow } from "./live.js";
import { href, refine, useLocation } from "./router.js";

const PAGE = 50;
// The API filters by status and label; a text is looked for in the newest runs only, as many as it lists at once.
const SEARCHED = 1000;
const STATUSES = ["queued", "running", "succeeded", "failed", "cancelled"];

export const Status = ({ run }) =>
  html`<span class=${`status ${run.status}`}>${run.phase && run.phase !== "running" ? run.phase : run.status}</span>`;

export const Labels = ({ labels }) =>
  Object.entries(labels ?? {}).map(([key, value]) => html`<a class="label" key=${key} href=${href(["runs"], { label: `${key}=${value}` })}>${visible(`${key}=${value}`)}</a>`);

function matching(run, text, label) {
  const [key, ...value] = label.split("=");
  if (label && run.labels?.[key] !== value.join("=")) return false;
  const labels = Object.entries(run.labels ?? {}).map((pair) => pair.join("="));
  const said = [run.id, run.request?.image, command(run), run.owner, run.error, run.reason, ...labels];
  return !text || said.some((each) => each?.toLowerCase().includes(text.toLowerCase()));
}

async function load(filters, signal) {
  const asked = new URLSearchParams({ limit: filters.text ? SEARCHED : PAGE, request: true });
  for (const name of ["status", "label", "before"]) if (filters[name]) asked.append(name, filters[name]);
  const runs = await get(`runs?${asked}`, { signal });
  return { runs: runs.filter((run) => matching(run, filters.text, filters.label)), last: runs.at(-1)?.id, full: runs.length >= PAGE };
}

// j and k go through the rows, / goes to the filter; Enter opens a row, as it is a link.
function useKeys(table, search) {
  useEffect(() => {
    const pressed = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input, select, textarea")) {
        if (event.key === "Escape") event.target.blur();
        return;
      }
      const step = { j: 1, k: -1 }[event.key];
      if (event.key === "/") search.current?.focus();
      else if (step) {
        const rows = [...(table.current?.querySelectorAll("a.row") ?? [])];
        const at = rows.indexOf(document.activeElement);
        rows[Math.min(rows.length - 1, Math.max(0, at < 0 ? 0 : at + step))]?.focus();
      } else return;
      event.preventDefault();
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
}

export function Runs() {
  const { query } = useLocation();
  const filters = { status: query.get("status") ?? "", label: query.get("label") ?? "", text: query.get("text") ?? "", before: query.get("before") ?? "" };
  const { value, error } = useLive((signal) => load(filters, signal), () => (filters.text ? 5000 : 2000), filters);
  const now = useNow(true);
  const [table, search] = [useRef(), useRef()];
  useKeys(table, search);
  const change = (name) => (event) => refine(["runs"], { ...filters, before: "", [name]: event.target.value });
  return html`<h1>Runs</h1>
    <form class="filters" role="search" onSubmit=${(event) => event.preventDefault()}>
      <label>Status <select value=${filters.status} onChange=${change("status")}>
        <option value="">all</option>
        ${STATUSES.map((each) => html`<option key=${each} value=${each} selected=${each === filters.status}>${each}</option>`)}
      </select></label>
      <label>Label <input name="label" placeholder="key=value" value=${filters.label} onChange=${change("label")} /></label>
      <label class="wide">Text <input name="text" ref=${search} type="search" placeholder="image, command, id, error" value=${filters.text}
        onInput=${change("text")} aria-keyshortcuts="/" /></label>
    </form>
    ${error && error.status !== 0 && html`<p class="error" role="alert">The runs cannot be listed: ${visible(error.message)}.
      ${filters.before && html` <a href=${href(["runs"])}>Go to the newest runs.</a>`}</p>`}
    ${value && (value.runs.length ? html`<${Table} runs=${value.runs} now=${now} table=${table} />` : html`<${Empty} filters=${filters} />`)}
    <nav class="pages" aria-label="Pages">
      ${filters.before && html`<a href=${href(["runs"], { ...filters, before: "" })}>Newest</a>`}
      ${value?.full && html`<a href=${href(["runs"], { ...filters, before: value.last })}>Older</a>`}
      <span class="hint">Keys: <kbd>/</kbd> filter, <kbd>j</kbd> <kbd>k</kbd> move, <kbd>Enter</kbd> open</span>
    </nav>`;
}

function Table({ runs, now, table }) {
  const owners = runs.some((run) => run.owner);
  const labels = runs.some((run) => run.labels);
  return html`<table class="runs" ref=${table}>
    <thead><tr>
      <th scope="col">Status</th><th scope="col">Image</th><th scope="col">Command</th>
      ${labels && html`<th scope="col">Labels</th>`}${owners && html`<th scope="col">Owner</th>`}
      <th scope="col">Started</th><th scope="col">Took</th><th scope="col">Reason</th>
    </tr></thead>
    <tbody>${runs.map((run) => html`<tr key=${run.id}>
      <td><${Status} run=${run} /></td>
      <td><a class="row" href=${href(["runs", run.id])} title=${run.id}>${visible(run.request?.image ?? run.id)}</a></td>
      <td class="command"><code>${shortened(visible(command(run)), 200)}</code></td>
      ${labels && html`<td><${Labels} labels=${run.labels} /></td>`}${owners && html`<td>${visible(run.owner ?? "")}</td>`}
      <td><time datetime=${run.startedAt} title=${local(run.startedAt)}>${run.status === "queued" ? "waits" : ago(run.startedAt, now)}</time></td>
      <td class="number">${took(run, now)}</td>
      <td title=${run.error ? visible(run.error) : undefined}>${run.reason ? reason(run) : ""}</td>
    </tr>`)}</tbody>
  </table>`;
}

function Empty({ filters }) {
  if (filters.before) return html`<p class="empty">There are no older runs. <a href=${href(["runs"])}>Go to the newest runs.</a></p>`;
  if (filters.status || filters.label || filters.text) {
    return html`<p class="empty">No run matches these filters. <a href=${href(["runs"])}>Show all runs.</a></p>`;
  }
  return html`<div class="empty"><p>There are no runs yet. Start one:</p>
    <pre><code>light-run run alpine:3.19 -- echo hello</code></pre></div>`;
}

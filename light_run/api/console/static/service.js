// The service: what is well and what is not, how full it is, and the runs of the last hour.
import { html, useEffect, useRef } from "./preact.js";
import { get, send } from "./api.js";
import { bytes, visible } from "./format.js";
import { style } from "./lazy.js";
import { useLive } from "./live.js";

const MINUTES = 60;

// The samples of Prometheus's text format that have no labels, by name.
const samples = (text) =>
  Object.fromEntries([...text.matchAll(/^light_run_(\w+) ([\d.eE+-]+)$/gm)].map(([, name, value]) => [name, Number(value)]));

async function load(signal) {
  const info = await get("info", { signal });
  // These need scopes of their own: a token without them sees the rest.
  const optional = (asked) => asked.catch((error) => {
    if (error.status === 403) return undefined;
    throw error;
  });
  const levels = await optional(send("metrics", { signal, headers: { Accept: "text/plain" } }).then((response) => response.text()).then(samples));
  const runs = await optional(get("runs?limit=1000", { signal }));
  return { info, levels, runs };
}

function Finding({ check, level, summary, fix }) {
  const name = { ok: "succeeded", warn: "queued", fail: "failed" }[level];
  return html`<li><span class=${`status ${name}`}>${level}</span> <strong>${check}</strong>: ${visible(summary)}${fix && html`<br /><span class="soft">${visible(fix)}</span>`}</li>`;
}

function Gauge({ name, value, most, show = String }) {
  return html`<div class="gauge"><span>${name}</span> <strong>${show(value)}${most === undefined ? "" : ` of ${show(most)}`}</strong>
    ${most > 0 && html`<meter min="0" max=${most} value=${Math.min(value, most)} aria-label=${name}></meter>`}</div>`;
}

// Ended runs of each of the last minutes: times in seconds, succeeded, others.
export function perMinute(runs, now) {
  const last = Math.floor(now / 60_000);
  const times = Array.from({ length: MINUTES }, (_, index) => (last - MINUTES + 1 + index) * 60);
  const counts = { succeeded: Array(MINUTES).fill(0), others: Array(MINUTES).fill(0) };
  for (const run of runs) {
    const index = run.finishedAt ? Math.floor(Date.parse(run.finishedAt) / 60_000) - last + MINUTES - 1 : -1;
    if (index >= 0 && index < MINUTES) counts[run.status === "succeeded" ? "succeeded" : "others"][index] += 1;
  }
  return [times, counts.succeeded, counts.others];
}

function Plot({ runs }) {
  const place = useRef();
  const chart = useRef();
  const data = perMinute(runs, Date.now());
  const [good, other] = data.slice(1).map((counts) => counts.reduce((sum, count) => sum + count, 0));
  useEffect(() => {
    let gone = false;
    style("console/uplot.css");
    // Without it the numbers above the plot are there.
    import("./uplot.js").catch(() => ({})).then(({ default: UPlot }) => {
      if (gone || !UPlot) return;
      const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
      const bars = { paths: UPlot.paths.bars({ size: [0.8, 20] }), points: { show: false } };
      const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 } };
      chart.current = new UPlot({
        width: place.current.clientWidth, height: 160, legend: { show: false }, cursor: { show: false },
        scales: { y: { range: (_, __, most) => [0, Math.max(4, most)] } },
        axes: [axis, { ...axis, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000] }],
        // Stacked: all of them behind those that did not succeed.
        series: [{}, { stroke: colour("--good"), fill: colour("--good"), ...bars }, { stroke: colour("--bad"), fill: colour("--bad"), ...bars }],
      }, stacked(data), place.current);
    });
    const resized = () => chart.current?.setSize({ width: place.current.clientWidth, height: 160 });
    addEventListener("resize", resized);
    return () => {
      gone = true;
      removeEventListener("resize", resized);
      chart.current?.destroy();
    };
  }, []);
  useEffect(() => chart.current?.setData(stacked(data)));
  return html`<section aria-labelledby="hour"><h2 id="hour">The last hour</h2>
    <p><span class="status succeeded">${good} succeeded</span> <span class="status failed">${other} failed or cancelled</span></p>
    <div class="plot" ref=${place} role="img" aria-label=${`Runs that ended in the last hour: ${good} succeeded, ${other} failed or were cancelled`}></div></section>`;
}

const stacked = ([times, good, other]) => [times, good.map((count, index) => count + other[index]), other];

export function Service() {
  const { value, error } = useLive(load, () => 3000, ["service"]);
  if (error && !value) return html`<h1>Service</h1><p class="error" role="alert">${visible(error.message)}</p>`;
  if (!value) return html`<h1>Service</h1><p class="soft" role="status">Loading…</p>`;
  const { info, levels, runs } = value;
  const problems = info.findings.filter(({ level }) => level !== "ok");
  const right = info.findings.filter(({ level }) => level === "ok");
  return html`<h1>Service</h1>
    <section aria-labelledby="found"><h2 id="found">Findings</h2>
      ${problems.length ? html`<ul class="findings">${problems.map((each) => html`<${Finding} key=${each.check} ...${each} />`)}</ul>`
        : html`<p class="status succeeded">nothing is wrong</p>`}
      <details><summary>${right.length} checks found nothing wrong</summary>
        <ul class="findings">${right.map((each) => html`<${Finding} key=${each.check} ...${each} />`)}</ul></details>
      <p class="soft"><code>light-run doctor</code> also has a run try what it reaches, and looks at the machine itself.</p></section>
    <section aria-labelledby="full"><h2 id="full">How full it is</h2><div class="gauges">
      ${levels && html`<${Gauge} name="Slots" value=${levels.active_runs} most=${levels.active_runs_limit} />
        <${Gauge} name="Queue" value=${levels.queued_runs} most=${levels.queued_runs_limit} />
        <${Gauge} name="Parked containers" value=${levels.parked_containers} most=${levels.parked_containers_limit} />
        <${Gauge} name="Artifacts" value=${levels.artifact_bytes} most=${levels.artifact_limit_bytes} show=${bytes} />`}
      <${Gauge} name="Disk in use" value=${info.disk.totalBytes - info.disk.freeBytes} most=${info.disk.totalBytes} show=${bytes} />
    </div>${!levels && html`<p class="soft">Slots, queue and parked containers need a token with the scope metrics.</p>`}</section>
    ${runs && html`<${Plot} runs=${runs} />`}
    <section aria-labelledby="what"><h2 id="what">What it is</h2><dl class="facts">
      <div><dt>light-run</dt><dd>${info.version}</dd></div>
      <div><dt>Engine</dt><dd>${visible(info.engine.name || "none")}</dd></div>
      <div><dt>Runtimes</dt><dd>${info.engine.runtimes.join(", ")}</dd></div>
      <div><dt>Workspaces</dt><dd>${info.workspace ?? "not known yet"}</dd></div>
      <div><dt>Packet filter</dt><dd>${(info.firewall ?? "not known").replaceAll("_", " ")}</dd></div>
      <div><dt>Your token</dt><dd>${visible(info.token.name ?? (info.token.required ? "the server's own" : "none"))}, ${info.token.scopes.join(", ")}</dd></div>
    </dl></section>`;
}

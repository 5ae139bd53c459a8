// One run: how it goes, what it writes, what came out, what was asked for, and buttons to control it.
import { html, useEffect, useState } from "./preact.js";
import { get, post, send } from "./api.js";
import { Artifacts } from "./artifacts.js";
import { bytes, command, duration, local, reason, remedy, shortened, took, visible } from "./format.js";
import { useLive, useNow } from "./live.js";
import { Output } from "./output.js";
import { go, href } from "./router.js";
import { Labels, Status } from "./runs.js";

const STEPS = { queuedMs: "queued", imageMs: "image", startMs: "start", runMs: "run", extractMs: "extract" };
const PHASES = { pulling: "The image is being pulled", building: "The steps are being built", starting: "The container is being started", paused: "The run is paused", extracting: "Artifacts are being copied" };
const USAGE = { cpuMs: ["CPU time", duration], memoryPeakBytes: ["most memory", bytes], oomKills: ["processes killed at the memory limit", String], diskBytes: ["disk", bytes] };

function TimeBar({ timings }) {
  const steps = Object.entries(STEPS).filter(([name]) => timings[name] > 0);
  const total = steps.reduce((sum, [name]) => sum + timings[name], 0);
  if (!total) return null;
  return html`<figure class="time"><div class="bar" role="img" aria-label=${steps.map(([name, label]) => `${label} ${duration(timings[name])}`).join(", ")}>
      ${steps.map(([name, label]) => html`<span key=${name} class=${label} style=${{ width: `${(100 * timings[name]) / total}%` }}></span>`)}
    </div><figcaption>${steps.map(([name, label]) => html`<span key=${name}><i class=${label}></i>${label} ${duration(timings[name])}</span>`)}</figcaption></figure>`;
}

function Progress({ run }) {
  const words = PHASES[run.phase];
  if (run.status === "queued") return html`<p class="soft" role="status">The run waits for a free slot.</p>`;
  if (!words) return null;
  const { progress } = run;
  const done = progress && (progress.layers !== undefined ? `: ${progress.done} of ${progress.layers} layers, ${bytes(progress.currentBytes)} of ${bytes(progress.totalBytes)}` : `: ${progress.done} of ${progress.steps} steps`);
  return html`<p class="soft" role="status">${words}${done}.</p>`;
}

function Buttons({ run, reload, may }) {
  const [asking, ask] = useState(false);
  const [busy, setBusy] = useState("");
  const [error, setError] = useState("");
  const act = (name, work) => async () => {
    setBusy(name);
    setError("");
    try {
      await work();
    } catch (problem) {
      setError(`${name}: ${problem.message}`);
    }
    setBusy("");
    ask(false);
    reload();
  };
  const control = (name, path = name.toLowerCase()) => html`<button type="button" key=${name} disabled=${Boolean(busy)} onClick=${act(name, () => post(`runs/${run.id}/${path}`))}>${name}</button>`;
  const remove = act("Delete", async () => {
    await send(`runs/${run.id}`, { method: "DELETE" });
    go(["runs"]);
  });
  if (!may) return null;
  return html`<div class="buttons">
    ${run.finishedAt
      ? asking
        ? html`<span>Delete the run, its output and its artifacts?</span><button type="button" class="danger" onClick=${remove}>Yes, delete</button>
          <button type="button" onClick=${() => ask(false)}>No</button>`
        : html`<a class="button" href=${href(["new"], { again: run.id })}>Run again</a><button type="button" class="danger" onClick=${() => ask(true)}>Delete</button>`
      : html`${run.phase === "running" && control("Pause")}${run.phase === "paused" && control("Resume")}${control("Stop")}${control("Cancel")}`}
    ${error && html`<p class="error" role="alert">${visible(error)}</p>`}
  </div>`;
}

function Fact({ name, children }) {
  return html`<div><dt>${name}</dt><dd>${children}</dd></div>`;
}

function limits({ memory, cpus, pids }) {
  return [memory && bytes(memory), cpus && `${cpus} CPUs`, pids && `${pids} processes`].filter(Boolean).join(", ");
}

function Facts({ run }) {
  const asked = run.request ?? {};
  const text = (value) => html`<code><bdi>${visible(value)}</bdi></code>`;
  const list = (values, show = text) => html`<ul>${values.map((value) => html`<li>${show(value)}</li>`)}</ul>`;
  return html`<section aria-labelledby="asked"><h2 id="asked">What was asked for</h2><dl class="facts">
    <${Fact} name="Id">${text(run.id)}<//>
    ${asked.image && html`<${Fact} name="Image">${text(asked.image)}<//><${Fact} name="Command">${text(command(run))}<//>`}
    ${asked.run && html`<${Fact} name="Steps">${list(asked.run)}<//>`}
    ${asked.files && html`<${Fact} name="Files">${list(asked.files, (file) => html`${text(file.path)} <span class="soft">${bytes(file.bytes)}</span>`)}<//>`}
    ${asked.env && html`<${Fact} name="Environment">${list(asked.env)}<//>`}
    ${asked.extract && html`<${Fact} name="Extract">${list(asked.extract)}<//>`}
    ${(asked.networks || asked.network) && html`<${Fact} name="Network">${text((asked.networks ?? [asked.network]).join(", "))}<//>`}
    ${asked.limits && html`<${Fact} name="Limits">${limits(asked.limits)}<//>`}
    ${asked.timeout && html`<${Fact} name="Timeout">${duration(asked.timeout)}<//>`}
    ${asked.workdir && html`<${Fact} name="Working directory">${text(asked.workdir)}<//>`}
    ${asked.runtime && html`<${Fact} name="Runtime">${text(asked.runtime)}<//>`}
    ${run.labels && html`<${Fact} name="Labels"><${Labels} labels=${run.labels} /><//>`}
    ${run.owner && html`<${Fact} name="Owner">${visible(run.owner)}<//>`}
    ${run.createdAt && html`<${Fact} name="Received">${local(run.createdAt)}<//>`}
    ${run.finishedAt && html`<${Fact} name="Ended">${local(run.finishedAt)}<//>`}
    ${run.parked && html`<${Fact} name="Container">parked ahead of the request<//>`}
    ${run.callback && html`<${Fact} name="Callback">${run.callback.state}, ${run.callback.attempts} attempts<//>`}
    ${Object.entries(run.usage ?? {}).map(([name, value]) => html`<${Fact} key=${name} name=${USAGE[name]?.[0] ?? name}>${(USAGE[name]?.[1] ?? String)(value)}<//>`)}
  </dl>${asked.truncated && html`<p class="soft">Long values were cut.</p>`}</section>`;
}

export function Run({ parts, info }) {
  const id = parts[1];
  const path = `runs/${encodeURIComponent(id)}?request=true`;
  const { value: run, error, reload } = useLive((signal) => get(path, { signal }), (found) => (found.finishedAt ? 0 : 1000), [id]);
  const now = useNow(run && !run.finishedAt, 250);
  useEffect(() => {
    document.title = `${id.slice(0, 8)} · light-run`;
  }, [id]);
  if (error && !run) {
    return html`<h1>Run</h1><p class="error" role="alert">${error.status === 404 ? "There is no such run: it was deleted, or made room for newer ones." : visible(error.message)}
      ${" "}<a href=${href(["runs"])}>Go to the runs.</a></p>`;
  }
  if (!run) return html`<h1>Run</h1><p class="soft" role="status">Loading…</p>`;
  const scopes = info.token.scopes;
  return html`<h1><${Status} run=${run} /> ${visible(run.request?.image ?? run.id)} <code>${shortened(visible(command(run)), 120)}</code></h1>
    <p class="outcome">${run.reason && html`<strong>${reason(run)}</strong>${" · "}`}<span>${took(run, now)}</span></p>
    ${run.error && html`<p class="error">${visible(run.error)}</p>`}
    ${remedy(run) && html`<p class="remedy">${remedy(run)}</p>`}
    <${Progress} run=${run} />
    ${run.timings && html`<${TimeBar} timings=${run.timings} />`}
    <${Buttons} run=${run} reload=${reload} may=${scopes.includes("run") || scopes.includes("admin")} />
    <${Output} key=${id} id=${id} ended=${reload} />
    <${Artifacts} run=${run} />
    <${Facts} run=${run} />`;
}

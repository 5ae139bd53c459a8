// The artifacts of a run: a tree, a preview beside it, and everything in one archive.
import { html, useState } from "./preact.js";
import { download } from "./api.js";
import { bytes, visible } from "./format.js";
import { Preview } from "./preview.js";

const MOST = 2000;

function tree(artifacts) {
  const root = { folders: new Map(), files: [] };
  for (const entry of artifacts.slice(0, MOST)) {
    const parts = entry.path.split("/").filter(Boolean);
    const folders = entry.type === "directory" ? parts : parts.slice(0, -1);
    let folder = root;
    for (const part of folders) {
      if (!folder.folders.has(part)) folder.folders.set(part, { folders: new Map(), files: [] });
      folder = folder.folders.get(part);
    }
    if (entry.type !== "directory") folder.files.push({ ...entry, name: parts.at(-1) });
  }
  return root;
}

function Folder({ folder, chosen, choose }) {
  return html`<ul class="tree">
    ${[...folder.folders].map(([name, below]) => html`<li key=${`/${name}`}><details open>
      <summary><bdi>${visible(name)}</bdi></summary><${Folder} folder=${below} chosen=${chosen} choose=${choose} />
    </details></li>`)}
    ${folder.files.map((file) => html`<li key=${file.name}><button type="button" class="quiet" aria-pressed=${chosen?.path === file.path}
      onClick=${() => choose(file)}><bdi>${visible(file.name)}</bdi></button> <span class="soft">${bytes(file.bytes)}</span></li>`)}
  </ul>`;
}

export function Artifacts({ run }) {
  const [chosen, choose] = useState();
  const [error, setError] = useState("");
  const found = run.artifacts ?? [];
  const lacking = (run.extracted ?? []).filter((entry) => entry.status !== "ok");
  const archive = (kind) => () => download(`runs/${run.id}/artifacts?archive=${kind}`, `${run.id}.${kind}`).catch((problem) => setError(problem.message));
  if (!found.length && !lacking.length) return null;
  return html`<section aria-labelledby="artifacts">
    <h2 id="artifacts">Artifacts</h2>
    ${lacking.map((entry) => html`<p class="error" key=${entry.path}>${visible(entry.path)}: ${entry.error ? visible(entry.error) : "there was no such file in the container"}</p>`)}
    ${error && html`<p class="error" role="alert">${error}</p>`}
    ${found.length > 0 && html`<p><button type="button" onClick=${archive("tar.gz")}>Download all as tar.gz</button>${" "}
      <button type="button" onClick=${archive("zip")}>as zip</button></p>`}
    ${found.length > MOST && html`<p class="soft">The first ${MOST} of ${found.length} are shown; the archive has all of them.</p>`}
    <div class="artifacts"><${Folder} folder=${tree(found)} chosen=${chosen} choose=${choose} />
      ${chosen && html`<${Preview} id=${run.id} file=${chosen} />`}</div>
  </section>`;
}

// What is inside an artifact, as text, image or table. Nothing of it becomes HTML; an image is data, without a URL of its own.
import { html, useEffect, useState } from "./preact.js";
import { artifactPath, download, send } from "./api.js";
import { bytes, visible } from "./format.js";

const IMAGES = { png: "image/png", jpg: "image/jpeg", jpeg: "image/jpeg", gif: "image/gif", webp: "image/webp", svg: "image/svg+xml", bmp: "image/bmp" };
const MOST_TEXT = 256 * 1024;
const MOST_IMAGE = 8 * 1024 * 1024;
const [ROWS, COLUMNS] = [200, 50];

const extension = (path) => path.split(".").at(-1).toLowerCase();

// Fields of RFC 4180: quoted where they have a separator, a quote or a new line.
export function table(text, separator) {
  const rows = [];
  let row = [];
  let field = "";
  let quoted = false;
  for (let at = 0; at < text.length && rows.length < ROWS; at += 1) {
    const letter = text[at];
    if (quoted) {
      if (letter !== '"') field += letter;
      else if (text[at + 1] === '"') {
        field += '"';
        at += 1;
      } else quoted = false;
    } else if (letter === '"') quoted = true;
    else if (letter === separator || letter === "\n") {
      row.push(field.replace(/\r$/, ""));
      field = "";
      if (letter === "\n") {
        rows.push(row.slice(0, COLUMNS));
        row = [];
      }
    } else field += letter;
  }
  if ((field || row.length) && rows.length < ROWS) rows.push([...row, field].slice(0, COLUMNS));
  return rows;
}

async function load(id, { path, bytes: size }, signal) {
  const url = artifactPath(id, path);
  const type = IMAGES[extension(path)];
  if (type) {
    if (size > MOST_IMAGE) return { note: "This image is too large for a preview." };
    const content = await (await send(url, { signal })).arrayBuffer();
    return { image: await dataUrl(new Blob([content], { type })) };
  }
  if (size === 0) return { note: "This file is empty." };
  const response = await send(url, { signal, headers: { Range: `bytes=0-${MOST_TEXT - 1}` } });
  const content = new Uint8Array(await response.arrayBuffer());
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(content, { stream: size > MOST_TEXT });
  } catch {
    return { note: "This file is not text; download it." };
  }
  if (text.includes("\u0000")) return { note: "This file is not text; download it." };
  const note = size > MOST_TEXT ? `The first ${bytes(MOST_TEXT)} of ${bytes(size)}.` : "";
  if (["csv", "tsv"].includes(extension(path))) {
    const rows = table(text, extension(path) === "tsv" ? "\t" : ",");
    return { rows, note: rows.length >= ROWS ? `The first ${ROWS} rows.` : note };
  }
  return { text, note };
}

const dataUrl = (blob) =>
  new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });

export function Preview({ id, file }) {
  const [state, set] = useState({});
  useEffect(() => {
    const controller = new AbortController();
    set({});
    load(id, file, controller.signal).then(set, (error) => controller.signal.aborted || set({ error: error.message }));
    return () => controller.abort();
  }, [id, file.path]);
  const name = file.path.split("/").at(-1);
  const save = () => download(artifactPath(id, file.path), name).catch((error) => set({ error: error.message }));
  return html`<div class="preview">
    <h3>${visible(file.path)} <button type="button" onClick=${save}>Download</button></h3>
    ${state.error && html`<p class="error" role="alert">${visible(state.error)}</p>`}
    ${state.note && html`<p class="soft">${state.note}</p>`}
    ${state.image && html`<img src=${state.image} alt=${`Preview of ${visible(name)}`} />`}
    ${state.text !== undefined && html`<pre tabindex="0" aria-label="Text of the file"><bdi>${state.text.split("\n").map(visible).join("\n")}</bdi></pre>`}
    ${state.rows && html`<div class="scroll" tabindex="0" role="group" aria-label="Table of the file"><table>
      <tbody>${state.rows.map((row) => html`<tr>${row.map((field) => html`<td><bdi>${visible(field)}</bdi></td>`)}</tr>`)}</tbody>
    </table></div>`}
  </div>`;
}

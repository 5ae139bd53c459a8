// The output of a run: only the lines that are in view are elements, however many there are.
import { html, useEffect, useMemo, useRef, useState } from "./preact.js";
import { download } from "./api.js";
import { plain, spans } from "./ansi.js";
import { Lines } from "./lines.js";

const HEIGHT = 20;
const AROUND = 20;

function Line({ line, top, marked }) {
  const parts = spans(line.carry, line.text);
  return html`<div class=${`line ${line.stream}${marked ? " marked" : ""}`} style=${{ top: `${top}px` }}>
    <span class="seq">${line.seq + 1}${line.stream === "stderr" ? " err" : ""}</span>
    <bdi>${parts.map((part) => html`<span class=${part.name} style=${part.style}>${part.text}</span>`)}</bdi>
  </div>`;
}

export function Output({ id, ended }) {
  const [, draw] = useState(0);
  const [stream, setStream] = useState("both");
  const [search, setSearch] = useState("");
  const [at, setAt] = useState(-1);
  const [follow, setFollow] = useState(true);
  const [error, setError] = useState("");
  const [view, setView] = useState({ top: 0, height: 600 });
  const box = useRef();
  const source = useRef();
  const last = useRef(0);
  const held = useRef(false);
  useEffect(() => {
    const released = () => {
      held.current = false;
    };
    addEventListener("pointerup", released);
    return () => removeEventListener("pointerup", released);
  }, []);
  useEffect(() => {
    let pending = 0;
    // However fast lines come, they are drawn a few times a second.
    const changed = () => {
      pending ||= setTimeout(() => {
        pending = 0;
        draw((count) => count + 1);
      }, 60);
    };
    source.current = new Lines(id, changed, ended);
    draw((count) => count + 1);
    return () => {
      source.current.close();
      clearTimeout(pending);
    };
  }, [id]);
  const { lines = [], dropped = 0, done = false } = source.current ?? {};
  const shown = useMemo(() => (stream === "both" ? lines : lines.filter((line) => line.stream === stream)), [lines, lines.length, stream]);
  const wanted = search.toLowerCase();
  const matches = useMemo(
    () => (wanted ? shown.flatMap((line, index) => (plain(line.text).toLowerCase().includes(wanted) ? [index] : [])) : []),
    [shown, shown.length, wanted],
  );
  useEffect(() => {
    const { current } = box;
    if (!follow || !current) return;
    current.scrollTop = current.scrollHeight;
    last.current = current.scrollTop;
  });
  const scrolled = (event) => {
    const { scrollTop, clientHeight, scrollHeight } = event.target;
    setView({ top: scrollTop, height: clientHeight });
    // A position alone says nothing: lines may have come since it was scrolled to the end. Somebody's way up does.
    if (scrollTop + clientHeight >= scrollHeight - HEIGHT) setFollow(true);
    else if (held.current && scrollTop < last.current) setFollow(false);
    last.current = scrollTop;
  };
  // The browser scrolls beside the page: these come before the page sees the new position, and before lines that are
  // drawn meanwhile could undo it. For the scrollbar, it is the press.
  const upwards = ({ currentTarget: { scrollHeight, clientHeight } }) => {
    if (scrollHeight > clientHeight) setFollow(false);
  };
  const jump = (event) => {
    event.preventDefault();
    if (!matches.length) return;
    const next = (at + 1) % matches.length;
    setAt(next);
    setFollow(false);
    box.current.scrollTop = matches[next] * HEIGHT - box.current.clientHeight / 2;
  };
  const first = Math.max(0, Math.floor(view.top / HEIGHT) - AROUND);
  const visibleLines = shown.slice(first, Math.ceil((view.top + view.height) / HEIGHT) + AROUND);
  const marked = at >= 0 ? matches[at] : -1;
  const save = () => download(`runs/${id}/logs?format=text${stream === "both" ? "" : `&stream=${stream}`}`, `${id}.log`).catch((problem) => setError(problem.message));
  return html`<section aria-labelledby="output">
    <h2 id="output">Output</h2>
    <form class="filters" onSubmit=${jump}>
      <label>Stream <select value=${stream} onChange=${(event) => setStream(event.target.value)}>
        <option value="both">both</option><option value="stdout">stdout</option><option value="stderr">stderr</option>
      </select></label>
      <label class="wide">Search <input type="search" name="search" value=${search} onInput=${(event) => {
        setSearch(event.target.value);
        setAt(-1);
      }} /></label>
      ${search && html`<span class="soft" role="status">${matches.length ? `${at + 1} of ${matches.length}` : "nothing found"}</span>
        <button>Next</button>`}
      <label><input type="checkbox" checked=${follow} onChange=${(event) => setFollow(event.target.checked)} /> Follow</label>
      <button type="button" onClick=${save}>Download</button>
    </form>
    ${error && html`<p class="error" role="alert">${error}</p>`}
    ${dropped > 0 && html`<p class="soft">The first ${dropped} lines are not shown; the download has them.</p>`}
    <div class="output" ref=${box} onScroll=${scrolled}
      onPointerDown=${() => {
        held.current = true;
      }} onWheel=${(event) => event.deltaY < 0 && upwards(event)} onTouchMove=${upwards}
      onKeyDown=${(event) => ["ArrowUp", "PageUp", "Home"].includes(event.key) && upwards(event)} tabindex="0" role="log" aria-live="off" aria-label="Lines of the output">
      <div class="lines" style=${{ height: `${shown.length * HEIGHT}px` }}>
        ${visibleLines.map((line, index) => html`<${Line} key=${line.seq} line=${line} top=${(first + index) * HEIGHT} marked=${first + index === marked} />`)}
      </div>
      ${!shown.length && html`<p class="empty">${done ? "Nothing was written." : "Nothing was written yet."}</p>`}
    </div>
  </section>`;
}

// The output of a run as it comes: a stream of JSON lines that is taken up again where it broke.
import { get, send } from "./api.js";
import { carried } from "./ansi.js";

const KEPT = 100_000;
const PAUSE = 1000;

// Keeps the last lines of a run; `changed` is called after each piece, `ended` once the run has ended.
export class Lines {
  constructor(id, changed, ended) {
    this.id = id;
    this.changed = changed;
    this.ended = ended;
    this.lines = [];
    this.dropped = 0;
    this.done = false;
    this.last = -1;
    this.carry = "";
    this.controller = new AbortController();
    this.run();
  }

  close() {
    this.controller.abort();
  }

  async run() {
    let follow = true;
    while (!this.controller.signal.aborted && !this.done) {
      try {
        await this.read(follow);
        this.done = Boolean((await get(`runs/${this.id}?request=true`, { signal: this.controller.signal })).finishedAt);
        follow = true;
      } catch (error) {
        if (this.controller.signal.aborted || error.status === 404 || error.status === 401) return;
        // Too many clients follow a run: the lines so far, again and again.
        follow = error.status !== 503;
      }
      if (this.controller.signal.aborted) return;
      if (this.done) this.ended();
      else await new Promise((resolve) => setTimeout(resolve, PAUSE));
    }
    this.changed();
  }

  async read(follow) {
    const from = this.last < 0 ? `tail=${KEPT}` : `since=${this.last}`;
    const path = `runs/${this.id}/logs?format=ndjson&follow=${follow}&${from}`;
    const reader = (await send(path, { signal: this.controller.signal })).body.getReader();
    const decoder = new TextDecoder();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const pieces = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = pieces.pop();
      if (pieces.length) this.add(pieces.map((piece) => JSON.parse(piece)));
    }
  }

  add(found) {
    if (this.last < 0 && found.length) this.dropped = found[0].seq;
    for (const { seq, stream, text } of found) {
      this.lines.push({ seq, stream, text, carry: this.carry });
      this.carry = carried(this.carry, text);
      this.last = seq;
    }
    if (this.lines.length > KEPT * 1.1) {
      this.dropped += this.lines.length - KEPT;
      this.lines = this.lines.slice(-KEPT);
    }
    this.changed();
  }
}

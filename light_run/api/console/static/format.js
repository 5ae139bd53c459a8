// Values as people read them. Everything here returns text, never markup.

const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

// Text of a run or of a file's name: what would be invisible or reorder its surroundings is shown by its number.
export const visible = (text) =>
  String(text).replace(CONTROL, (found) => `⟨${found.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`);

export const shortened = (text, length) => (text.length <= length ? text : `${text.slice(0, length - 1)}…`);

export function bytes(count) {
  if (count === undefined || count === null) return "";
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let size = count;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? size : size.toFixed(1)} ${units[unit]}`;
}

export function duration(ms) {
  if (ms === undefined || ms === null) return "";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60)];
  return hours ? `${hours} h ${minutes} min` : `${minutes} min ${seconds % 60} s`;
}

export function ago(time, now = Date.now()) {
  const seconds = Math.max(0, (now - Date.parse(time)) / 1000);
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86_400)} d ago`;
}

export const local = (time) => new Date(time).toLocaleString();

// Why a run ended: in words, and what to do about it.
const REASONS = {
  exit: ["exited", ""],
  timeout: ["ran into its timeout", "Give it more time with timeout, or find out in the output what it waited for."],
  out_of_memory: ["ran out of memory", "Raise limits.memory, or have the command use less."],
  cancelled: ["cancelled", ""],
  stopped: ["stopped", ""],
  image_not_found: ["image not found", "Check the name and the tag of the image, and whether its registry needs a login."],
  pull_failed: ["pull failed", "Check that the server reaches the registry; the error has the engine's words."],
  build_failed: ["a step failed", "The error has the last lines of the step that failed; correct that entry of run."],
  start_failed: ["could not start", "The error has the engine's words; check the command, the network and the limits."],
  engine_unavailable: ["engine unavailable", "Check that the Docker engine runs: light-run doctor finds what is wrong."],
  interrupted: ["interrupted", "The server or the engine stopped meanwhile; run it again."],
};

export function reason(run) {
  const [words] = REASONS[run.reason] ?? [String(run.reason ?? "").replaceAll("_", " ")];
  return run.reason === "exit" ? `exit code ${run.exitCode}` : words;
}

export function remedy(run) {
  if (run.reason === "exit" && run.exitCode) {
    if (run.exitCode === 127) return "The shell did not find the command: check its name, and whether the image has it.";
    if (run.exitCode === 126) return "The command is not executable: check its mode, or call its interpreter.";
    return "The command itself failed; its output says why.";
  }
  return REASONS[run.reason]?.[1] ?? "";
}

// How long a run has taken so far.
export const took = (run, now = Date.now()) =>
  run.status === "queued" ? "" : duration(run.durationMs ?? Math.max(0, now - Date.parse(run.startedAt)));

export const command = (run) => run.request?.entrypoint ?? (run.request ? "the image's own" : "");

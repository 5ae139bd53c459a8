// Colours of a terminal as spans of text. Anser parses the colours; every other control sequence is dropped.
import "./commonjs.js";
import "./anser.js";
import { visible } from "./format.js";

const Anser = globalThis.module.exports;
delete globalThis.module;

const COLOUR = /\u001b\[[\d;]*m/g;
// Cursor movements, titles, links and the like (ECMA-48: CSI, OSC, DCS and two-character sequences).
const OTHER = /\u001b\[(?![\d;]*m)[0-?]*[ -/]*[@-~]|\u001b[\]PX^_][^\u0007\u001b]*(?:\u0007|\u001b\\)?|\u001b[ -/]*[0-Z\\^-~]/g;
const LONGEST = 4000;
const MOST_SPANS = 300;
const LONGEST_CARRY = 200;

// The colours that still hold after `text`, which began with those of `carry`.
export function carried(carry, text) {
  if (!text.includes("\u001b")) return carry;
  const codes = carry + (text.match(COLOUR) ?? []).join("");
  const reset = Math.max(codes.lastIndexOf("\u001b[m"), codes.lastIndexOf("\u001b[0m"));
  const left = reset < 0 ? codes : codes.slice(codes.indexOf("m", reset) + 1);
  return left.length > LONGEST_CARRY ? "" : left;
}

// What a terminal would show of a line last: a carriage return has the rest written over it.
const overwritten = (text) => text.replace(/\r+$/, "").split("\r").at(-1);

export const plain = (text) => visible(overwritten(text.replace(OTHER, "").replace(COLOUR, "")));

// Spans {text, name, style} of a line: classes for the sixteen colours of a theme, a style for others.
export function spans(carry, text) {
  const line = overwritten(text.replace(OTHER, ""));
  const rest = line.length > LONGEST ? `… ${line.length - LONGEST} more characters: download the output to see them` : "";
  const cut = carry + line.slice(0, LONGEST);
  const count = (cut.match(COLOUR) ?? []).length;
  if (!count || count > MOST_SPANS) return [{ text: visible(cut.replace(COLOUR, "")) + rest, name: "", style: undefined }];
  const found = Anser.ansiToJson(cut, { use_classes: true, remove_empty: true });
  return [...found.map(span), ...(rest ? [{ text: rest, name: "soft", style: undefined }] : [])];
}

function span({ content, fg, bg, fg_truecolor, bg_truecolor, decorations }) {
  const [front, frontStyle] = colour(fg, fg_truecolor);
  const [back, backStyle] = colour(bg, bg_truecolor);
  const names = [front, back && `on-${back}`, ...(decorations ?? [])].filter(Boolean);
  const style = frontStyle || backStyle ? { color: frontStyle, backgroundColor: backStyle } : undefined;
  return { text: visible(content), name: names.join(" "), style };
}

function colour(name, truecolour) {
  if (!name) return ["", undefined];
  if (name === "ansi-truecolor") return ["", `rgb(${truecolour})`];
  const index = /^ansi-palette-(\d+)$/.exec(name)?.[1];
  return index === undefined ? [name, undefined] : ["", palette(Number(index))];
}

// The 256 colours of xterm beyond the first sixteen: a cube and a scale of grey.
function palette(index) {
  if (index >= 232) return `rgb(${Array(3).fill(8 + (index - 232) * 10)})`;
  const level = (step) => (step ? 55 + step * 40 : 0);
  const cube = index - 16;
  return `rgb(${level(Math.floor(cube / 36))}, ${level(Math.floor(cube / 6) % 6)}, ${level(cube % 6)})`;
}

// A person's sightings: a row for each camera, time along the axis; and the same as a table.

import { draw, make } from "./elements.js";
import { wordName } from "./names.js";
import { wordCamera, wordCount, wordScore, wordTime } from "./words.js";

const WIDTH = 640;
const ROW = 26;
const SIDE = 120;
const STEPS = [1, 5, 10, 30, 60, 300, 600, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800,
  2592000, 7776000, 31536000];

function ticks(first, last) {
  const step = STEPS.find((seconds) => (last - first) / seconds <= 4) ?? STEPS.at(-1) * 10;
  const places = [];
  for (let at = Math.ceil(first / step) * step; at <= last; at += step) places.push(at);
  return { step, places };
}

function wordTick(seconds, step) {
  const text = new Date(seconds * 1000).toISOString();
  if (step >= 86400) return text.slice(0, 10);
  return step >= 60 ? `${text.slice(5, 10)} ${text.slice(11, 16)}` : text.slice(11, 19);
}

const shorten = (text) => (text.length > 15 ? `${text.slice(0, 14)}…` : text);

const word = (match, digits) => [wordCamera(match.camera), wordTime(match.time),
  match.score === undefined ? "" : `likeness ${wordScore(match.score, digits)}`].filter(Boolean).join(", ");

function go(match) {
  const crop = document.getElementById(`crop-${match.crop}`);
  if (crop === null) return;
  crop.scrollIntoView({ block: "nearest" });
  crop.focus();
}

/** Arrow keys go from sighting to sighting, of which one is a tab stop. */
function walk(marks) {
  marks.forEach((mark, place) => {
    mark.setAttribute("tabindex", place === 0 ? "0" : "-1");
    mark.addEventListener("keydown", (event) => {
      const to = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: marks.length - 1 }[event.key];
      if (to === undefined || !marks[to]) return;
      event.preventDefault();
      mark.setAttribute("tabindex", "-1");
      marks[to].setAttribute("tabindex", "0");
      marks[to].focus();
    });
  });
}

function drawMark(match, words, { x, y }) {
  const mark = draw("g", { role: "button", "aria-label": words, class: "mark" },
    draw("title", {}, words),
    draw("circle", { cx: x, cy: y, r: 12, class: "reach" }), draw("circle", { cx: x, cy: y, r: 5.5 }));
  mark.addEventListener("click", () => go(match));
  mark.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    go(match);
  });
  return mark;
}

function drawStrip(seen, person, digits) {
  const cameras = [...new Set(seen.map((match) => match.camera))].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  const rows = new Map(cameras.map((camera, row) => [camera, row]));
  const times = seen.map((match) => Date.parse(match.time) / 1000);
  let [first, last] = times.reduce(([least, most], time) => [Math.min(least, time), Math.max(most, time)], [Infinity, -Infinity]);
  const margin = Math.max((last - first) * 0.06, 30);
  [first, last] = [first - margin, last + margin];
  const height = cameras.length * ROW + 24;
  const place = (time) => SIDE + ((time - first) / (last - first)) * (WIDTH - SIDE - 24);
  const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${height}`, class: "strip", role: "group",
    "aria-label": `When and where ${wordName(person)} was seen; arrow keys go from sighting to sighting` });
  const axis = ticks(first, last);
  for (const at of axis.places) {
    svg.append(draw("line", { x1: place(at), x2: place(at), y1: 4, y2: height - 20, class: "tick" }),
      draw("text", { x: place(at), y: height - 5, "text-anchor": "middle", "aria-hidden": "true" }, wordTick(at, axis.step)));
  }
  cameras.forEach((camera, row) => {
    const y = row * ROW + ROW / 2 + 2;
    svg.append(draw("text", { x: 0, y: y + 4, class: "row", "aria-hidden": "true" }, shorten(wordCamera(camera)),
      draw("title", {}, wordCamera(camera))),
      draw("line", { x1: SIDE, x2: WIDTH, y1: y, y2: y, class: "lane" }));
  });
  const marks = seen.map((match, at) => drawMark(match, word(match, digits),
    { x: place(times[at]), y: rows.get(match.camera) * ROW + ROW / 2 + 2 }));
  walk(marks);
  svg.append(...marks);
  return svg;
}

function listTable(matches, person, digits) {
  const scored = matches.some((match) => match.score !== undefined);
  const rows = matches.map((match) => make("tr", {},
    make("td", {}, wordTime(match.time)), make("td", {}, make("bdi", {}, match.camera ? wordName(match.camera) : "unknown")),
    scored ? make("td", { class: "number" }, match.score === undefined ? "" : wordScore(match.score, digits)) : null,
    make("td", {}, make("bdi", {}, match.tags.map(wordName).join(", ")))));
  return make("details", { class: "as-table" }, make("summary", {}, "Sightings as a table"),
    make("div", { class: "wide", role: "region", tabindex: "0", "aria-label": `Table of sightings of ${wordName(person)}` }, make("table", {},
      make("caption", { class: "spoken" }, `Sightings of ${wordName(person)}`),
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Time (UTC)"), make("th", { scope: "col" }, "Camera"),
        scored ? make("th", { scope: "col", class: "number" }, "Likeness") : null, make("th", { scope: "col" }, "Tags"))),
      make("tbody", {}, rows))));
}

/** The strip of sightings whose time is known, with the table of them all. */
export function showStrip(matches, person, digits) {
  const byTime = [...matches].sort((a, b) => (a.time ?? "~").localeCompare(b.time ?? "~"));
  const seen = byTime.filter((match) => match.time);
  const without = matches.length - seen.length;
  return make("div", { class: "sightings" },
    seen.length > 0 ? drawStrip(seen, person, digits) : null,
    without > 0 ? make("p", { class: "hint" }, `${wordCount(without, "crop has", "crops have")} no time.`) : null,
    listTable(byTime, person, digits));
}

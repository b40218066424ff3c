// A person's best and mean score between the two thresholds.

import { draw, make } from "./elements.js";
import { countDigits, wordErrors, wordScore, wordShare } from "./words.js";

/** How an answer's scores are shown: the lowest on the scale, and how many digits they have. */
export const readScale = (answer) => ({ low: lowEnd(answer), digits: countDigits(
  answer.people.flatMap((person) => [person.best, person.mean, ...person.matches.map((match) => match.score)]),
  answer.thresholds) });

/** The lowest score that a scale shows: a little below the lowest of an answer. */
function lowEnd(answer) {
  const scores = answer.people.flatMap((person) => [person.best, person.mean]);
  if (answer.thresholds) scores.push(answer.thresholds.unsure);
  const lowest = scores.reduce((least, score) => Math.min(least, score), 1);
  return Math.max(-1, Math.floor((lowest - (1 - lowest) * 0.1 - 0.02) * 10) / 10);
}

/** Draw best (full) and mean (hollow) with the thresholds; the words beside it say the same. */
export function showScale(person, thresholds, { low, digits }) {
  const place = (score) => 8 + (Math.min(1, Math.max(low, score)) - low) / (1 - low) * 284;
  const svg = draw("svg", { viewBox: "0 0 300 40", class: "scale", "aria-hidden": "true" },
    draw("rect", { x: 8, y: 15, width: 284, height: 6, rx: 3, class: "track" }));
  if (thresholds) {
    const [unsure, same] = [place(thresholds.unsure), place(thresholds.same)];
    svg.append(draw("rect", { x: unsure, y: 15, width: Math.max(0, same - unsure), height: 6, class: "unsure" }),
      draw("rect", { x: same, y: 15, width: Math.max(0, 292 - same), height: 6, class: "same" }),
      draw("line", { x1: unsure, x2: unsure, y1: 8, y2: 28, class: "limit" }),
      draw("line", { x1: same, x2: same, y1: 8, y2: 28, class: "limit" }));
    const right = Math.min(same - 2, 244);
    svg.append(draw("text", { x: right, y: 38 }, `same ${wordScore(thresholds.same, digits)}`));
    if (unsure < same) {
      svg.append(draw("text", { x: Math.min(unsure + 2, right - 6), y: 38, "text-anchor": "end" }, `unsure ${wordScore(thresholds.unsure, digits)}`));
    }
  }
  svg.append(draw("circle", { cx: place(person.mean), cy: 18, r: 5, class: "mean" }),
    draw("path", { d: `M${place(person.best)} 10l7 8-7 8-7-8z`, class: "best" }));
  return svg;
}

/** The thresholds and what they cost, in words. */
export function wordThresholds(thresholds, digits) {
  return make("p", { class: "thresholds" },
    make("span", {}, make("b", {}, `same from ${wordScore(thresholds.same, digits)}`), ` (false accepts ${wordShare(thresholds.same_far)})`),
    thresholds.unsure < thresholds.same ? " · " : null,
    thresholds.unsure >= thresholds.same ? null : make("span", {}, make("b", {}, `unsure from ${wordScore(thresholds.unsure, digits)}`), ` (false accepts ${wordShare(thresholds.unsure_far)})`),
    make("span", { class: "hint" }, `. ${wordErrors(thresholds)}`));
}

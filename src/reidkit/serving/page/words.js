// How numbers, times and verdicts are worded.

import { wordName } from "./names.js";

const SIGNS = { same: "✓", unsure: "?", unknown: "–" };
const VERDICTS = { same: "same", unsure: "unsure", unknown: "unknown" };

/** A verdict's sign and word; anything unheard of is unknown. */
export function wordVerdict(verdict) {
  const known = VERDICTS[verdict] ?? "unknown";
  return { kind: known, sign: SIGNS[known], word: known };
}

/** "2026-11-24 20:00:05", to which the page says once that it is UTC. */
export function wordTime(text) {
  return text ? text.replace("T", " ").replace(/(\.\d+)?Z$/, "") : "time unknown";
}

const FEWEST = 3;
const MOST = 8;

/** How many digits tell scores from the thresholds: three, four near 1, more where they are closer. */
export function countDigits(scores, thresholds) {
  const limits = thresholds ? [thresholds.same, thresholds.unsure] : [];
  const near = [...scores, ...limits].some((score) => score > 0.99 && score < 1);
  let digits = near ? FEWEST + 1 : FEWEST;
  const alike = () => limits.some((limit) => [...scores, ...limits].some((score) =>
    score !== limit && score.toFixed(digits) === limit.toFixed(digits)));
  while (digits < MOST && alike()) digits += 1;
  return digits;
}

export const wordScore = (score, digits = FEWEST) => score.toFixed(digits).replace("-", "−");

/** A camera; a bare number says nothing by itself. */
export function wordCamera(name) {
  if (!name) return "camera unknown";
  return /^\d+$/.test(name) ? `camera ${name}` : wordName(name);
}

const SOME = 6;

/** The first of some names, and how many more there are. */
export const listSome = (names) => names.slice(0, SOME).map(wordName).join(", ") +
  (names.length > SOME ? ` and ${(names.length - SOME).toLocaleString("en")} more` : "");

/** A text as a sentence: with a capital in front and a stop behind. */
export function wordSentence(text) {
  const said = text.trim();
  if (!said) return "";
  return said[0].toUpperCase() + said.slice(1) + (/[.!?…]$/.test(said) ? "" : ".");
}

export const wordCount = (count, one, many) =>
  `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

/** A share in per cent, with as many digits as tell it from 0. */
export function wordShare(share) {
  const percent = share * 100;
  const text = percent === 0 || percent >= 10 ? percent.toFixed(0) : percent.toPrecision(1);
  return `${Number(text)} %`;
}

export function wordBytes(bytes) {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (bytes >= 1024 && unit < units.length - 1) {
    bytes /= 1024;
    unit += 1;
  }
  return `${unit === 0 || bytes >= 100 ? bytes.toFixed(0) : bytes.toFixed(1)} ${units[unit]}`;
}

/** What a threshold's error rate counts. */
export function wordErrors(thresholds) {
  const counted = thresholds.kind === "pairs" ? "pairs of different people" : "searches for strangers";
  return `False accepts are the share of ${counted} that pass all the same.`;
}

export const NOT_CALIBRATED =
  "This package has no thresholds, so nothing can be said of “same”. Calibrate it (reidkit calibrate); " +
  "until then people are only ranked by likeness.";

/** What somebody with these roles may do. */
export function allows(session, role) {
  return session !== null && (session.roles.includes(role) || session.roles.includes("admin"));
}

/** Why a key may not do something; empty where it may. */
export function wordDenied(session, role, doing) {
  if (allows(session, role)) return "";
  if (session === null) return `${doing} needs a key with the role ${role}.`;
  return `Your key “${session.name}” may not do this: ${doing.toLowerCase()} needs the role ${role}.`;
}

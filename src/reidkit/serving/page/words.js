// How numbers, times and verdicts are worded.

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

export const wordScore = (score) => score.toFixed(2).replace("-", "−");

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

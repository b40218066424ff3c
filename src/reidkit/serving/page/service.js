// Talking to the service: the key, and its problems in words.

import { nameFiles } from "./names.js";
import { wordSentence } from "./words.js";

const KEPT = "reidkit-key";

/** What the service refused, in words; `status` is HTTP's, `problem` what it said. */
export class Refusal extends Error {
  constructor(message, status, problem) {
    super(message);
    this.status = status;
    this.problem = problem;
  }
}

export const readKey = () => sessionStorage.getItem(KEPT);
export const keepKey = (key) => sessionStorage.setItem(KEPT, key);

let current = new AbortController();

/** Forget the key, and let nothing arrive that was asked with it. */
export function forgetKey() {
  sessionStorage.removeItem(KEPT);
  current.abort();
  current = new AbortController();
}

const WORDS = {
  401: "The service does not know this key.",
  403: "This key may not do that.",
  413: "That is too large for the service.",
  429: "Too many requests with this key.",
  503: "The service is busy.",
};

async function readProblem(response) {
  const kind = response.headers.get("content-type") ?? "";
  if (!kind.includes("json")) return {};
  try {
    return (await response.json()) ?? {};
  } catch {
    return {};
  }
}

function word(response, problem) {
  const said = typeof problem.detail === "string" ? nameFiles(wordSentence(problem.detail)) : "";
  const known = WORDS[response.status] ?? "";
  let words = known;
  if (said && response.status !== 401) words = known ? `${known} ${said}` : said;
  if (!words) words = problem.title || `The service answered with error ${response.status}.`;
  const seconds = Number(response.headers.get("retry-after"));
  if ((response.status === 429 || response.status === 503) && seconds > 0) {
    words = `${wordSentence(words)} Try again in ${seconds} s.`;
  }
  return words;
}

/** Ask the service; gives the response, or throws a Refusal. A 401 tells the document. */
export async function ask(path, options = {}) {
  const headers = new Headers(options.headers);
  const key = readKey();
  if (key) headers.set("Authorization", `Bearer ${key}`);
  const signal = AbortSignal.any([current.signal, options.signal].filter(Boolean));
  let response;
  try {
    response = await fetch(path, { ...options, signal, headers, cache: "no-store", credentials: "omit" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal("The service cannot be reached.", 0, {});
  }
  if (response.ok) return response;
  const problem = await readProblem(response);
  if (response.status === 401) document.dispatchEvent(new Event("key-wanted"));
  throw new Refusal(word(response, problem), response.status, problem);
}

/** Ask the service for JSON. */
export async function askJson(path, options = {}) {
  return (await ask(path, options)).json();
}

/** A person's address; names may hold slashes. */
export const personPath = (name) => `/v1/persons/${encodeURIComponent(name)}`;

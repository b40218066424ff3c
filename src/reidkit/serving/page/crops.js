// Crops as pictures: fetched with the key when they come into sight, let go of when they leave.

import { draw, make } from "./elements.js";
import { ask } from "./service.js";
import { wordName } from "./names.js";
import { wordCamera, wordScore, wordTime } from "./words.js";

const AT_ONCE = 6;
const waiting = [];
let loading = 0;

const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    watcher.unobserve(entry.target);
    entry.target.dispatchEvent(new Event("seen"));
  }
}, { rootMargin: "300px" });

function loadNext() {
  while (loading < AT_ONCE && waiting.length > 0) {
    loading += 1;
    waiting.shift()().finally(() => {
      loading -= 1;
      loadNext();
    });
  }
}

const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

async function fetchPicture(crop, signal) {
  const path = `/v1/crops/${crop}/picture`;
  try {
    return await (await ask(path, { signal })).blob();
  } catch (error) {
    if (error.status !== 429 && error.status !== 503) throw error;
    await pause(2);
    return (await ask(path, { signal })).blob();
  }
}

/** A crop's picture, an <img> in a frame that says so where none was kept. */
export function showPicture(crop, words) {
  const image = make("img", { alt: words, width: 80, height: 160, decoding: "async" });
  const frame = make("span", { class: "frame", "data-held": true }, image);
  const stop = new AbortController();
  let address = null;
  frame.addEventListener("gone", () => {
    watcher.unobserve(frame);
    stop.abort();
    if (address !== null) URL.revokeObjectURL(address);
    address = null;
  });
  frame.addEventListener("seen", () => {
    waiting.push(async () => {
      if (stop.signal.aborted) return;
      try {
        const picture = await fetchPicture(crop, stop.signal);
        if (stop.signal.aborted) return;
        address = URL.createObjectURL(picture);
        image.src = address;
        frame.classList.add("loaded");
      } catch {
        if (!stop.signal.aborted) frame.replaceChildren(make("span", { class: "none" }, "no picture"));
      }
    });
    loadNext();
  });
  watcher.observe(frame);
  return frame;
}

function lookAlike() {
  return draw("svg", { viewBox: "0 0 16 16", "aria-hidden": "true", class: "glyph" },
    draw("circle", { cx: 7, cy: 7, r: 4.5 }), draw("path", { d: "m10.5 10.5 4 4" }));
}

/** A crop with its camera, time and score, and a way to search for more like it. */
export function showCrop(match, person, digits) {
  const camera = wordCamera(match.camera);
  const time = wordTime(match.time);
  const words = `${wordName(person)}, ${camera}, ${time}`;
  const more = () =>
    document.dispatchEvent(new CustomEvent("more-like", { detail: { crop: match.crop, person, words } }));
  const score = match.score === undefined ? null
    : make("span", { class: "score", title: "likeness to what was searched with" }, wordScore(match.score, digits));
  return make("li", { class: "crop", id: `crop-${match.crop}`, tabindex: "-1" },
    showPicture(match.crop, words),
    make("span", { class: "camera" }, make("bdi", {}, camera), " ", score),
    make("span", { class: "time" }, ...time.split(" ").map((part) => make("span", {}, `${part} `))),
    match.tags.length > 0 ? make("span", { class: "tags" }, make("bdi", {}, match.tags.map(wordName).join(", "))) : null,
    make("button", { type: "button", class: "small", onclick: more, "aria-label": `More like this: ${words}` },
      lookAlike(), "More like this"));
}

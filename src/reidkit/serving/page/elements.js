// Making elements. Text from the service only ever becomes text: nothing here parses HTML.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

/** Make an HTML element; attributes named `on...` are listeners, null and false ones are left out. */
export function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Make an SVG element. */
export function draw(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** The element of an id. */
export function find(id) {
  return document.getElementById(id);
}

/** Give an element other children; what leaves it is told, so that pictures are let go of. */
export function replace(element, ...children) {
  for (const gone of element.querySelectorAll("[data-held]")) gone.dispatchEvent(new Event("gone"));
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
}

/** Show a text, or hide the element where there is none. */
export function say(element, text) {
  element.textContent = text;
  element.hidden = !text;
}

/** Speak what was done, a text or parts of one; show it too, where nothing else on the page does. */
export function announce(said, { shown = false } = {}) {
  find("error").textContent = "";
  find("status").classList.toggle("spoken", !shown);
  replace(find("status"), said);
}

/** Let go of what was announced or complained of. */
export function hush() {
  find("error").textContent = "";
  find("status").textContent = "";
}

/** Show and speak what went wrong; what was given up on purpose is no error. */
export function complain(error) {
  if (error?.name === "AbortError") return;
  find("status").textContent = "";
  find("error").textContent = error instanceof Error ? error.message : String(error);
}

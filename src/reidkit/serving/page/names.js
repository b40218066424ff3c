// Names as people gave them: kept from turning the text round them, or from hiding in it.

import { make } from "./elements.js";

// Controls of the writing direction, and signs without ink that do no more than tell two names apart.
const HIDDEN = /[\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\u{e0000}-\u{e007f}]/gu;
const INVISIBLE = /[\p{Default_Ignorable_Code_Point}\p{Cf}]/gu;
const LONGEST = 40;

const wordSign = (sign) => `U+${sign.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;

const collapse = (text) => text.normalize("NFC").replace(/\s+/gu, " ").trim();

/** What of a name is hidden; all that has no ink where nothing else is there. */
const hiddenIn = (name) => (collapse(name.replace(INVISIBLE, "")) === "" ? INVISIBLE : HIDDEN);

/** A name as plain text, in which what could not be seen is spelt out. */
export const wordName = (name) => name.replace(hiddenIn(name), (sign) => `[${wordSign(sign)}]`);

/** The beginning of a name, long enough for a title. */
export function shortenName(name) {
  const signs = [...name];
  return signs.length > LONGEST ? `${signs.slice(0, LONGEST - 1).join("")}…` : name;
}

/** A name as an element of its own direction; its blanks are kept, what could not be seen is spelt out. */
export function showName(name) {
  const parts = wordName(name).split(/(\[U\+[0-9A-F]{4,6}\])/u);
  return make("bdi", {}, parts.map((part, at) => (at % 2 === 0 ? part : make("span", { class: "unseen" }, part))));
}

/** Whether somebody typed this name: as it is shown, or without what cannot be seen, blanks as they come. */
export function isTyped(typed, name) {
  const bare = (text) => collapse(text.replace(INVISIBLE, ""));
  const given = bare(typed);
  return given !== "" && (given === bare(name) || given === collapse(wordName(name)));
}

/** Say of files in a message what they are called, not which places they had in a request. */
export const nameFiles = (text) => text.replace(/pictures\[\d+\] (['"])(.*?)\1/gi, (...parts) => wordName(parts[2]));

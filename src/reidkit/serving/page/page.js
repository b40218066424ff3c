// The page: which view is shown, and whose key it works with.

import { announce, complain, find, hush, replace, say } from "./elements.js";
import { setUpEnrolment } from "./enrolling.js";
import { takePictures } from "./fields.js";
import { showGallery } from "./gallery.js";
import { setUpPeople, setUpPerson } from "./people.js";
import { setUpSearch } from "./searching.js";
import { wordName } from "./names.js";
import { askJson, forgetKey, keepKey, readKey } from "./service.js";
import { allows, wordDenied } from "./words.js";

const TITLES = { search: "Search", people: "People", person: "Person", enrol: "Enrol", gallery: "Gallery" };

const search = setUpSearch();
const people = setUpPeople();
const person = setUpPerson();
const enrolment = setUpEnrolment(() => people.remember().catch(() => {}));
let session = null;
let told = "";

function readPlace() {
  const [view, ...rest] = location.hash.slice(1).split("/");
  try {
    return [view in TITLES ? view : "search", decodeURIComponent(rest.join("/"))];
  } catch {
    return ["search", ""];
  }
}

async function showView(focus = true) {
  const [view, name] = readPlace();
  for (const section of document.querySelectorAll(".view")) section.hidden = section.id !== `view-${view}`;
  for (const link of document.querySelectorAll("nav a")) {
    const here = link.hash === `#${view === "person" ? "people" : view}`;
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${view === "person" && name ? wordName(name) : TITLES[view]} · reidkit`;
  hush();
  if (focus) find(`${view}-title`).focus();
  if (!allows(session, "search")) {
    if (session !== null && view !== "search" && view !== "enrol") {
      announce(wordDenied(session, "search", "Reading the gallery"), { shown: true });
    }
    return;
  }
  if (view === "people") await people.show();
  if (view === "person") await person.show(name);
  if (view === "gallery") await showGallery();
  if (told) announce(told, { shown: true });
  told = "";
}

function clearAll() {
  for (const part of [search, people, person, enrolment]) part.clear();
  for (const list of document.querySelectorAll("datalist")) list.replaceChildren();
  replace(find("statistics"));
  history.replaceState(null, "", "#search");
}

function wordSession() {
  return readKey() === null ? "No keys: everybody on this machine may do everything" : session.name;
}

function tellSession() {
  for (const part of [search, person, enrolment]) part.allow(session);
  find("who").textContent = session === null ? "" : wordSession();
  find("who").title = session === null ? "" : `Roles: ${session.roles.join(", ")}`;
  find("enter-key").hidden = session !== null;
  find("forget-key").hidden = readKey() === null;
}

function askForKey() {
  if (find("key-dialog").open) return;
  find("key").value = "";
  say(find("key-error"), "");
  find("key-dialog").showModal();
  find("key").focus();
}

async function openSession() {
  try {
    session = await askJson("/v1/session");
  } catch (error) {
    session = null;
    if (error.status !== 401) complain(error);
  }
  tellSession();
  if (allows(session, "search")) people.remember().catch(complain);
  if (session !== null) await showView(false);
  return session !== null;
}

async function useKey(event) {
  event.preventDefault();
  const key = find("key").value.trim();
  if (!/^[\x21-\x7e]+$/.test(key)) {
    say(find("key-error"), "A key is one word of plain letters, digits and signs.");
    return;
  }
  keepKey(key);
  if (await openSession()) {
    find("key-dialog").close();
    announce(`Key accepted: ${session.name}, who may ${session.roles.join(", ")}.`);
    find(`${readPlace()[0]}-title`).focus();
    return;
  }
  forgetKey();
  tellSession();
  say(find("key-error"), find("error").textContent || "The service does not know this key.");
  find("key").select();
}

function dropKey() {
  forgetKey();
  session = null;
  clearAll();
  tellSession();
  showView(false);
  askForKey();
  announce("Key forgotten.", { shown: true });
}

find("key-form").addEventListener("submit", useKey);
find("forget-key").addEventListener("click", dropKey);
find("enter-key").addEventListener("click", askForKey);
for (const button of document.querySelectorAll("dialog [data-close]")) {
  button.addEventListener("click", () => button.closest("dialog").close());
}
document.addEventListener("key-wanted", askForKey);
find("key-dialog").addEventListener("close", () => {
  if (session === null) find("enter-key").focus();
});
document.addEventListener("erased", (event) => {
  search.forget();
  told = event.detail;
  location.hash = "people";
  people.remember().catch(() => {});
});
find("skip").addEventListener("click", (event) => {
  event.preventDefault();
  find("content").focus();
});
addEventListener("hashchange", () => showView());
takePictures(() => {
  if (document.querySelector("dialog[open]") !== null) return null;
  return { search: search.pictures, enrol: enrolment.pictures }[readPlace()[0]] ?? null;
});
await showView(false);
await openSession();

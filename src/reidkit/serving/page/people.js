// The people of the gallery, one of them, and how one is erased.

import { showCrop } from "./crops.js";
import { announce, complain, find, make, replace, say } from "./elements.js";
import { suggest } from "./fields.js";
import { isTyped, shortenName, showName, wordName } from "./names.js";
import { askJson, personPath } from "./service.js";
import { showStrip } from "./strip.js";
import { listSome, wordCount, wordDenied, wordTime } from "./words.js";

const PAGE = 25;

const CROPS = 200;

function facts(person) {
  const cameras = `${person.cameras.length === 1 ? "camera" : "cameras"} ${listSome(person.cameras)}`;
  return [wordCount(person.crops, "crop", "crops"), person.cameras.length > 0 ? cameras : null,
    person.first ? `${wordTime(person.first)} to ${wordTime(person.last)}` : null].filter(Boolean).join(" · ");
}

function listPeople(persons) {
  if (persons.length === 0) return make("p", { class: "empty" }, "Nobody here by that name.");
  return make("ul", { class: "list" }, persons.map((person) => make("li", {},
    make("a", { href: `#person/${encodeURIComponent(person.name)}` }, showName(person.name)),
    make("span", {}, facts(person)))));
}

/** Set the list of people up; gives `show`, and `remember` for the suggestions of names. */
export function setUpPeople() {
  let before = [];
  let after = "";
  let next = null;
  let running = null;

  async function show() {
    running?.abort();
    running = new AbortController();
    const named = find("people-named").value;
    const query = new URLSearchParams({ limit: PAGE, ...(after && { after }), ...(named && { named }) });
    try {
      const page = await askJson(`/v1/persons?${query}`, { signal: running.signal });
      next = page.next;
      replace(find("people-list"), listPeople(page.persons));
      find("people-pages").hidden = next === null && before.length === 0;
      find("people-previous").disabled = before.length === 0;
      find("people-next").disabled = next === null;
      find("people-page").textContent = `page ${before.length + 1}`;
      announce(`${wordCount(page.persons.length, "person", "people")} listed.`);
    } catch (error) {
      complain(error);
    }
  }

  function start() {
    before = [];
    after = "";
    return show();
  }

  find("people-form").addEventListener("submit", (event) => {
    event.preventDefault();
    start();
  });
  find("people-next").addEventListener("click", async () => {
    before.push(after);
    after = next;
    await show();
    find("people-title").focus();
  });
  find("people-previous").addEventListener("click", async () => {
    after = before.pop() ?? "";
    await show();
    find("people-title").focus();
  });
  return {
    show: start,
    clear() {
      running?.abort();
      replace(find("people-list"));
      find("people-form").reset();
      find("people-pages").hidden = true;
    },
    async remember() {
      const [{ persons }, { cameras }] = await Promise.all([askJson("/v1/persons?limit=200"), askJson("/v1/gallery")]);
      suggest(find("known-people"), persons.map((person) => person.name));
      suggest(find("known-cameras"), cameras);
    },
  };
}

/** Set one person's page up; gives `show(name)` and `allow` to be told of the session. */
export function setUpPerson() {
  let shown = null;
  let wanted = null;
  let crops = [];
  let next = null;
  const strip = make("div");
  const cards = make("ul", { class: "crops" });

  /** Ask for more of a person's crops, and show them with those before. */
  async function readMore(name, mine) {
    const query = new URLSearchParams({ limit: CROPS, ...(next !== null && { after: next }) });
    const answer = await askJson(`${personPath(name)}?${query}`, { signal: mine.signal });
    next = answer.next ?? null;
    crops = crops.concat(answer.crops);
    cards.append(...answer.crops.map((crop) => showCrop(crop, name)));
    replace(strip, showStrip(crops, name));
    find("person-rest").hidden = next === null;
    return answer.person;
  }

  function tellShown() {
    find("person-shown").textContent = `${crops.length.toLocaleString("en")} of ${wordCount(shown.crops, "crop", "crops")} shown`;
  }

  function clear() {
    wanted?.abort();
    wanted = shown = next = null;
    crops = [];
    for (const part of [cards, strip, find("person"), find("person-title")]) replace(part);
    find("erase-button").hidden = find("person-rest").hidden = true;
  }

  async function show(name) {
    clear();
    const mine = new AbortController();
    wanted = mine;
    replace(find("person-title"), showName(name));
    try {
      const person = await readMore(name, mine);
      shown = person;
      tellShown();
      cards.setAttribute("aria-label", `Crops of ${wordName(name)}`);
      replace(find("person"), make("p", { class: "lead" }, facts(person)), make("h2", {}, "When and where"), strip,
        make("h2", {}, "Crops"), cards);
      find("erase-button").hidden = false;
      announce([showName(name), `: ${wordCount(person.crops, "crop", "crops")}.`]);
    } catch (error) {
      complain(error);
    }
  }

  find("person-more").addEventListener("click", async () => {
    const from = crops.length;
    find("person-more").disabled = true;
    try {
      await readMore(shown.name, wanted);
      tellShown();
      announce(`${wordCount(crops.length - from, "crop", "crops")} more.`);
      cards.children[from]?.focus();
    } catch (error) {
      complain(error);
    } finally {
      find("person-more").disabled = false;
    }
  });
  setUpErasing(() => shown);
  return {
    show,
    clear,
    allow(session) {
      const reason = wordDenied(session, "erase", "Erasing");
      find("erase-button").disabled = reason !== "";
      say(find("erase-reason"), reason);
    },
  };
}

/** Set the dialog up in which the person that is shown is erased. */
function setUpErasing(person) {
  const dialog = find("erase-dialog");
  const typed = find("erase-name");
  const matches = () => person() !== null && isTyped(typed.value, person().name);

  find("erase-button").addEventListener("click", () => {
    const { name, crops } = person();
    const short = () => showName(shortenName(name));
    replace(find("erase-title"), "Erase ", short(), "?");
    replace(find("erase-what"), `This erases ${wordCount(crops, "crop", "crops")} of `, short(), ", with pictures, " +
      "vectors, cameras, times and tags. It cannot be undone. Files elsewhere, exports and backups stay.");
    replace(find("erase-exact"), showName(name));
    find("erase-error").textContent = "";
    typed.value = "";
    find("erase-confirm").disabled = true;
    dialog.showModal();
    typed.focus();
  });
  typed.addEventListener("input", () => {
    find("erase-confirm").disabled = !matches();
  });
  find("erase-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!matches()) return;
    const { name } = person();
    find("erase-confirm").disabled = true;
    try {
      const { erased } = await askJson(personPath(name), { method: "DELETE" });
      dialog.close();
      document.dispatchEvent(new CustomEvent("erased", {
        detail: [`${wordCount(erased, "crop", "crops")} of `, showName(name), " erased. This cannot be undone."] }));
    } catch (error) {
      find("erase-error").textContent = error.message;
      find("erase-confirm").disabled = false;
    }
  });
}

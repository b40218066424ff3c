// The people of the gallery, one of them, and how one is erased.

import { showCrop } from "./crops.js";
import { announce, complain, find, make, replace, say } from "./elements.js";
import { suggest } from "./fields.js";
import { askJson, personPath } from "./service.js";
import { showStrip } from "./strip.js";
import { wordCount, wordDenied, wordTime } from "./words.js";

const PAGE = 25;

const facts = (person) => [wordCount(person.crops, "crop", "crops"),
  person.cameras.length > 0 ? person.cameras.join(", ") : null,
  person.first ? `${wordTime(person.first)} to ${wordTime(person.last)}` : null].filter(Boolean);

function listPeople(persons) {
  if (persons.length === 0) return make("p", { class: "empty" }, "Nobody here by that name.");
  return make("ul", { class: "list" }, persons.map((person) => make("li", {},
    make("a", { href: `#person/${encodeURIComponent(person.name)}` }, person.name),
    make("span", {}, facts(person).join(" · ")))));
}

/** Set the list of people up; gives `show`, and `remember` for the suggestions of names. */
export function setUpPeople() {
  let before = [];
  let after = "";
  let next = null;

  async function show() {
    const named = find("people-named").value;
    const query = new URLSearchParams({ limit: PAGE, ...(after && { after }), ...(named && { named }) });
    try {
      const page = await askJson(`/v1/persons?${query}`);
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
      replace(find("people-list"));
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
  const dialog = find("erase-dialog");
  const typed = find("erase-name");
  const matches = () => shown !== null && typed.value.trim().normalize("NFC") === shown.name;

  async function show(name) {
    wanted = name;
    shown = null;
    find("erase-button").hidden = true;
    replace(find("person"));
    find("person-title").textContent = name;
    try {
      const { person, crops } = await askJson(personPath(name));
      if (wanted !== name) return;
      shown = person;
            replace(find("person"), make("p", { class: "lead" }, facts(person).join(" · ")),
        make("h2", {}, "When and where"), showStrip(crops, person.name),
        make("h2", {}, "Crops"), make("ul", { class: "crops", "aria-label": `Crops of ${name}` }, crops.map((crop) => showCrop(crop, name))));
      find("erase-button").hidden = false;
      announce(`${name}: ${wordCount(person.crops, "crop", "crops")}.`);
    } catch (error) {
      if (wanted === name) complain(error);
    }
  }

  find("erase-button").addEventListener("click", () => {
    find("erase-title").textContent = `Erase ${shown.name}?`;
    find("erase-what").textContent = `This erases ${wordCount(shown.crops, "crop", "crops")} of ${shown.name}, with pictures, ` +
      "vectors, cameras, times and tags. It cannot be undone. Files elsewhere, exports and backups stay.";
    find("erase-exact").textContent = shown.name;
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
    const { name } = shown;
    find("erase-confirm").disabled = true;
    try {
      const { erased } = await askJson(personPath(name), { method: "DELETE" });
      dialog.close();
      document.dispatchEvent(new CustomEvent("erased", {
        detail: `${wordCount(erased, "crop", "crops")} of ${name} erased. This cannot be undone.` }));
    } catch (error) {
      find("erase-error").textContent = error.message;
      find("erase-confirm").disabled = false;
    }
  });
  return {
    show,
    clear() {
      shown = wanted = null;
      replace(find("person"));
    },
    allow(session) {
      const reason = wordDenied(session, "erase", "Erasing");
      find("erase-button").disabled = reason !== "";
      say(find("erase-reason"), reason);
    },
  };
}

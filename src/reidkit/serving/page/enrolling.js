// Enrolment: pictures of one person, with what is known of them.

import { announce, complain, find, make, replace, say } from "./elements.js";
import { namesField, pictureField, readTime } from "./fields.js";
import { nameFiles, showName } from "./names.js";
import { askJson } from "./service.js";
import { wordCount, wordDenied } from "./words.js";

/** List pictures that were not taken, with the reasons. */
function listRefused(refused) {
  if (!Array.isArray(refused) || refused.length === 0) return null;
  return make("div", { class: "refused" }, make("h3", {}, `${wordCount(refused.length, "picture was", "pictures were")} refused`),
    make("ul", {}, refused.map((one) => make("li", {}, make("b", {}, showName(nameFiles(String(one.name)))), `: ${one.reason}`))));
}

function showEnrolled(name, enrolment) {
  const { ids, replaced, skipped, refused } = enrolment;
  const words = () => [`${wordCount(ids.length, "picture", "pictures")} of `, showName(name), " enrolled" +
    `${replaced ? `, ${replaced} of them anew` : ""}${skipped ? `, ${skipped} of them there already` : ""}.`];
  const taken = ids.length === 0 ? null : make("div", { class: "done" }, make("p", {}, make("span", { class: "sign", "aria-hidden": "true" }, "✓ "), words(), " ",
    make("a", { href: `#person/${encodeURIComponent(name)}` }, "Show ", showName(name))));
  replace(find("enrolled"), taken, listRefused(refused));
  announce([words(), refused.length > 0 ? ` ${refused.length} refused.` : ""]);
}

/** Set the enrolment up; gives its picture field, and `allow` to be told of the session. */
export function setUpEnrolment(done) {
  const pictures = pictureField(find("enrol-pictures"), "enrol-files");
  const tags = namesField(find("enrol-tags"), { id: "enrol-tag", label: "Tags", known: "known-tags", hint: "optional" });
  const person = find("enrol-person");
  person.setAttribute("list", "known-people");

  function gather(name) {
    const body = new FormData();
    for (const file of pictures.files) body.append("pictures", file, file.name);
    body.append("person", name);
    const known = { camera: find("enrol-camera").value.trim(), time: readTime(find("enrol-time")) };
    for (const [field, value] of Object.entries(known)) if (value) body.append(field, value);
    for (const tag of tags.values()) body.append("tag", tag);
    return body;
  }

  async function enrol() {
    const name = person.value.trim().normalize("NFC");
    if (pictures.files.length === 0) {
      complain("Choose, drop or paste pictures of the person first.");
      return pictures.focus();
    }
    if (!name) {
      complain("Give the person a name or a number.");
      return person.focus();
    }
    replace(find("enrolled"));
    announce("Enrolling…");
    find("enrol-button").disabled = true;
    try {
      showEnrolled(name, await askJson("/v1/persons", { method: "POST", body: gather(name) }));
      pictures.clear();
      done();
    } catch (error) {
      complain(error);
      const refused = listRefused(error.problem?.refused);
      if (refused !== null) replace(find("enrolled"), refused);
    } finally {
      find("enrol-button").disabled = false;
    }
    return undefined;
  }

  find("enrol-form").addEventListener("submit", (event) => {
    event.preventDefault();
    enrol();
  });
  return {
    pictures,
    clear() {
      find("enrol-form").reset();
      pictures.clear();
      tags.clear();
      replace(find("enrolled"));
    },
    allow(session) {
      const reason = wordDenied(session, "enrol", "Enrolling");
      find("enrol-fields").disabled = reason !== "";
      say(find("enrol-reason"), reason);
    },
  };
}

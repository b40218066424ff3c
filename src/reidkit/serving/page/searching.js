// The search: pictures or a crop in, ranked people out.

import { showCrop } from "./crops.js";
import { announce, complain, find, make, replace, say } from "./elements.js";
import { showName, wordName } from "./names.js";
import { namesField, pictureField, readTime, suggest } from "./fields.js";
import { readScale, showScale, wordThresholds } from "./scale.js";
import { askJson } from "./service.js";
import { showStrip } from "./strip.js";
import { NOT_CALIBRATED, wordCount, wordDenied, wordScore, wordSentence, wordVerdict } from "./words.js";

const CROPS = 6;
const NARROW = matchMedia("(max-width: 760px)");

function showVerdict(verdict) {
  const { kind, sign, word } = wordVerdict(verdict);
  return make("span", { class: `verdict ${kind}` }, make("span", { class: "sign", "aria-hidden": "true" }, sign), word);
}

function showPerson(person, rank, thresholds, scale) {
  const { digits } = scale;
  const title = `rank-${rank}`;
  const rest = person.crops - person.matches.length;
  return make("li", {}, make("article", { class: "person", "aria-labelledby": title },
    make("header", {},
      make("h3", { id: title }, make("span", { class: "rank" }, `${rank}.`), " ",
        make("a", { href: `#person/${encodeURIComponent(person.person)}` }, showName(person.person))),
      showVerdict(person.verdict),
      make("p", { class: "numbers" }, "best ", make("b", {}, wordScore(person.best, digits)), ", mean ",
        make("b", {}, wordScore(person.mean, digits)), ` of ${wordCount(person.crops, "crop", "crops")}`),
      showScale(person, thresholds, scale)),
    make("ul", { class: "crops", "aria-label": `Crops of ${wordName(person.person)}, most alike first` },
      person.matches.map((match) => showCrop(match, person.person, digits))),
    rest > 0 ? make("p", { class: "hint rest" }, make("a", { href: `#person/${encodeURIComponent(person.person)}` },
      "All crops"), " of ", showName(person.person)) : null,
    showStrip(person.matches, person.person, digits)));
}

function wordAnswer(answer) {
  const { people } = answer;
  if (people.length === 0) return "Nobody found";
  if (!answer.thresholds) return ["Most alike: ", showName(people[0].person)];
  if (answer.verdict === "same") return ["Seen before: most likely ", showName(people[0].person)];
  if (answer.verdict === "unsure") return ["Unsure: perhaps ", showName(people[0].person)];
  return "Unknown: nobody here is alike enough";
}

function showAnswer(answer) {
  const scale = readScale(answer);
  const { kind, sign } = wordVerdict(answer.verdict);
  replace(find("answer"),
    make("div", { class: `outcome ${kind}` },
      make("span", { class: "sign", "aria-hidden": "true" }, sign),
      make("div", {}, make("p", { class: "says" }, wordAnswer(answer)),
        answer.reason && answer.thresholds ? make("p", {}, wordSentence(answer.reason)) : null,
        make("p", { class: "hint" }, `${wordCount(answer.searched, "crop", "crops")} searched, ` +
          `${wordCount(answer.people.length, "person", "people")} listed.`))),
    answer.thresholds ? wordThresholds(answer.thresholds, scale.digits) : make("p", { class: "note", id: "uncalibrated" }, NOT_CALIBRATED),
    answer.people.length === 0
      ? make("p", { class: "empty" }, "No crop in the gallery passes these filters.")
      : make("p", { class: "hint legend" }, "◆ best, ○ mean likeness of a person’s crops"),
    make("ol", { class: "people" }, answer.people.map((person, at) => showPerson(person, at + 1, answer.thresholds, scale))));
  announce([wordAnswer(answer), `. ${wordCount(answer.people.length, "person", "people")} listed.`]);
}

/** Set the search up; gives its picture field, and `allow` to be told of the session. */
export function setUpSearch() {
  let like = null;
  let running = null;
  const chosen = make("div", { class: "like" });
  const nothing = [...find("answer").childNodes];
  const pictures = pictureField(find("search-pictures"), "search-files", (files) => {
    if (files.length > 0) setLike(null);
    dropAnswer();
  });
  find("search-pictures").append(chosen);
  const cameras = namesField(find("filter-cameras"), { id: "filter-camera", label: "Cameras", known: "known-cameras", hint: "any of these" });
  const tags = namesField(find("filter-tags"), { id: "filter-tag", label: "Tags", known: "known-tags", hint: "all of these" });
  const persons = namesField(find("filter-persons"), { id: "filter-person", label: "People", known: "known-people", hint: "only these" });

  /** An answer stands beside what it was found with, and nothing else. */
  function dropAnswer() {
    running?.abort();
    running = null;
    find("results").removeAttribute("aria-busy");
    replace(find("answer"), nothing);
  }

  function setLike(crop) {
    like = crop;
    replace(chosen, crop === null ? null : make("p", {}, make("b", {}, "More like "), make("bdi", {}, crop.words)),
      crop === null ? null : make("button", { type: "button", class: "small", onclick: () => {
        setLike(null);
        dropAnswer();
        pictures.focus();
      } }, "Remove"));
    chosen.hidden = crop === null;
  }

  function gather() {
    const body = new FormData();
    for (const file of pictures.files) body.append("pictures", file, file.name);
    if (like !== null) body.append("like", like.crop);
    body.append("people", String(Math.min(100, Math.max(1, Math.round(Number(find("filter-people").value)) || 10))));
    body.append("crops", CROPS);
    for (const camera of cameras.values()) body.append("camera", camera);
    for (const person of persons.values()) body.append("person", person);
    for (const tag of tags.values()) body.append("tag", tag);
    for (const name of ["since", "until"]) {
      const time = readTime(find(`filter-${name}`));
      if (time) body.append(name, time);
    }
    return body;
  }

  async function search() {
    if (pictures.files.length === 0 && like === null) {
      complain("Choose, drop or paste a picture first.");
      pictures.focus();
      return;
    }
    dropAnswer();
    const mine = new AbortController();
    running = mine;
    find("results").setAttribute("aria-busy", "true");
    announce("Searching…");
    try {
      const answer = await askJson("/v1/search", { method: "POST", body: gather(), signal: mine.signal });
      showAnswer(answer);
      suggest(find("known-tags"), [...[...find("known-tags").options].map((option) => option.value),
        ...answer.people.flatMap((person) => person.matches.flatMap((match) => match.tags))]);
      find("results-title").focus();
      if (NARROW.matches) find("results").scrollIntoView();
    } catch (error) {
      complain(error);
    } finally {
      if (running === mine) find("results").removeAttribute("aria-busy");
    }
  }

  find("search-form").addEventListener("submit", (event) => {
    event.preventDefault();
    search();
  });
  function clearFilters() {
    for (const field of [cameras, tags, persons]) field.clear();
    for (const name of ["since", "until"]) find(`filter-${name}`).value = "";
    find("filter-people").value = "10";
  }

  find("clear-filters").addEventListener("click", () => {
    clearFilters();
    announce("Filters cleared.");
  });
  document.addEventListener("more-like", (event) => {
    pictures.clear();
    setLike(event.detail);
    location.hash = "search";
    search();
  });
  setLike(null);
  if (NARROW.matches) find("filters").open = false;
  return {
    pictures,
    /** Let go of what was found, and of a crop that it was found with. */
    forget() {
      setLike(null);
      dropAnswer();
    },
    clear() {
      setLike(null);
      pictures.clear();
      clearFilters();
    },
    allow(session) {
      const reason = wordDenied(session, "search", "Searching");
      find("search-button").disabled = reason !== "";
      say(find("search-reason"), reason);
    },
  };
}

// What the gallery holds and how it searches.

import { complain, find, make, replace } from "./elements.js";
import { askJson } from "./service.js";
import { NOT_CALIBRATED, countDigits, listSome, wordBytes, wordErrors, wordScore, wordShare } from "./words.js";

const figure = (name, value, meaning = "") => make("div", {}, make("dt", {}, name),
  make("dd", { class: "value" }, value), meaning ? make("dd", { class: "meaning" }, meaning) : null);

const fact = (name, value) => make("div", {}, make("dt", {}, name), make("dd", {}, value));

function wordRecall(store) {
  if (typeof store.recall === "number") return `${(store.recall * 100).toFixed(2)} % of the true ten best`;
  return store.search.startsWith("exact") ? "all, the search is exact" : "not measured yet (reidkit gallery stats --measure)";
}

function showThresholds(thresholds) {
  if (!thresholds) return make("p", { class: "note" }, NOT_CALIBRATED);
  const digits = countDigits([], thresholds);
  const row = (word, score, share) => make("tr", {}, make("th", { scope: "row" }, word),
    make("td", { class: "number" }, wordScore(score, digits)), make("td", { class: "number" }, wordShare(share)));
  return make("div", {}, make("table", {}, make("caption", { class: "spoken" }, "Thresholds and their error rates"),
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Verdict"), make("th", { scope: "col", class: "number" }, "Score from"),
      make("th", { scope: "col", class: "number" }, "False accepts"))),
    make("tbody", {}, row("✓ same", thresholds.same, thresholds.same_far), 
      thresholds.unsure < thresholds.same ? row("? unsure", thresholds.unsure, thresholds.unsure_far) : null)),
  make("p", { class: "hint" }, `${wordErrors(thresholds)} Measured on a data set; yours may differ.`));
}

/** Show the statistics. */
export async function showGallery() {
  try {
    const stats = await askJson("/v1/gallery");
    const { binding, store, thresholds } = stats;
    replace(find("statistics"),
      make("dl", { class: "figures" },
        figure("People", stats.people.toLocaleString("en")), figure("Crops", stats.crops.toLocaleString("en")),
        figure("Cameras", stats.cameras.length.toLocaleString("en"), listSome(stats.cameras)),
        figure("On disk", wordBytes(store.disk), store.name), figure("In memory", wordBytes(store.memory), "vectors")),
      make("h2", {}, "Thresholds"), showThresholds(thresholds),
      make("h2", {}, "Search"), make("dl", { class: "facts" }, fact("How", store.search), fact("Finds", wordRecall(store)),
        fact("Vectors", `${binding.dimension} numbers each`)),
      make("h2", {}, "Model"), make("dl", { class: "facts" }, binding.package ? fact("Package", binding.package) : null,
        fact("Model", make("code", {}, binding.model_sha256)), fact("Input contract", make("code", {}, binding.contract_sha256))));
  } catch (error) {
    complain(error);
  }
}

// Two kinds of field: pictures that are dropped, pasted or chosen, and lists of names.

import { announce, make, replace } from "./elements.js";
import { showName, wordName } from "./names.js";
import { wordCount } from "./words.js";

function preview(file, drop) {
  const address = URL.createObjectURL(file);
  const image = make("img", { src: address, alt: wordName(file.name), width: 80, height: 160, "data-held": true,
    ongone: () => URL.revokeObjectURL(address) });
  return make("li", { class: "crop" }, image, make("span", { class: "camera" }, showName(file.name)),
    make("button", { type: "button", class: "small", onclick: drop, "aria-label": `Remove ${wordName(file.name)}` }, "Remove"));
}

/** A field of pictures in `place`; gives its `files`, `add`, `clear` and `focus`. */
export function pictureField(place, id, changed = () => {}) {
  let files = [];
  const input = make("input", { id, type: "file", multiple: true, class: "spoken",
    accept: "image/jpeg,image/png,image/webp,image/bmp", "aria-describedby": `${id}-hint` });
  const list = make("ul", { class: "crops previews", "aria-label": "Chosen pictures" });
  const target = make("div", { class: "drop" }, input,
    make("label", { for: id }, make("strong", {}, "Choose pictures"), make("span", {}, "or drop or paste them here")),
    make("p", { class: "hint", id: `${id}-hint` }, "Crops of one person: JPEG, PNG, WebP or BMP."));
  const show = () => {
    replace(list, files.map((file) => preview(file, () => {
      files = files.filter((other) => other !== file);
      show();
      input.focus();
    })));
    list.hidden = files.length === 0;
    changed(files);
  };
  const field = {
    get files() { return files; },
    add(more) {
      if (more.length === 0) return;
      files = [...files, ...more];
      show();
      announce(`${wordCount(files.length, "picture", "pictures")} chosen.`);
    },
    clear() {
      files = [];
      show();
    },
    focus() { input.focus(); },
  };
  input.addEventListener("change", () => {
    field.add([...input.files]);
    input.value = "";
  });
  replace(place, target, list);
  list.hidden = true;
  return field;
}

/** A field of names in `place`, which become chips; `values()` takes in what is being typed too. */
export function namesField(place, { id, label, known, hint = "" }) {
  let names = [];
  const input = make("input", { id, type: "text", dir: "auto", maxlength: 200, autocomplete: "off", list: known,
    "aria-describedby": hint ? `${id}-hint` : null });
  const chips = make("ul", { class: "chips", "aria-label": `${label}: chosen` });
  const show = () => {
    replace(chips, names.map((name) => make("li", {}, showName(name),
      make("button", { type: "button", "aria-label": `Remove ${wordName(name)}`, onclick: () => {
        names = names.filter((other) => other !== name);
        show();
        input.focus();
      } }, "×"))));
    chips.hidden = names.length === 0;
  };
  const take = () => {
    const name = input.value.trim();
    input.value = "";
    if (name && !names.includes(name)) names = [...names, name];
    show();
  };
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && input.value.trim()) {
      event.preventDefault();
      take();
    } else if (event.key === "Backspace" && input.value === "") {
      names = names.slice(0, -1);
      show();
    }
  });
  replace(place, make("div", { class: "field" }, make("label", { for: id }, label),
    make("div", { class: "with-button" }, input,
      make("button", { type: "button", onclick: take, "aria-label": `Add to ${label.toLowerCase()}` }, "Add")),
    hint ? make("span", { class: "hint", id: `${id}-hint` }, hint) : null, chips));
  show();
  return {
    values() {
      take();
      return names;
    },
    clear() {
      names = [];
      input.value = "";
      show();
    },
  };
}

/** A datetime-local field's value as the service takes it, said to be UTC; empty where unset. */
export function readTime(input) {
  if (!input.value) return "";
  return `${input.value.length === 16 ? `${input.value}:00` : input.value}Z`;
}

/** Fill a list of suggestions. */
export function suggest(list, names) {
  const options = [...new Set(names)].filter(Boolean).sort();
  list.replaceChildren(...options.map((name) => make("option", { value: name })));
}

/** Take pictures that are pasted, or dropped anywhere, for the field in use. */
export function takePictures(current) {
  document.addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])].filter((file) => file.type.startsWith("image/"));
    if (files.length === 0 || current() === null) return;
    event.preventDefault();
    current().add(files);
  });
  const carries = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  for (const kind of ["dragenter", "dragover"]) {
    document.addEventListener(kind, (event) => {
      if (!carries(event)) return;
      event.preventDefault();
      document.body.classList.toggle("dragging", current() !== null);
    });
  }
  document.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) document.body.classList.remove("dragging");
  });
  document.addEventListener("drop", (event) => {
    document.body.classList.remove("dragging");
    if (!carries(event)) return;
    event.preventDefault();
    current()?.add([...event.dataTransfer.files]);
  });
}

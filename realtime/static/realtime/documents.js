// The documents: search over their headings, copying of code, and the contents folded where the window is narrow.

import { copy } from "./copy.js";
import { fetchJson } from "./server.js";

const MOST_FOUND = 30;

/** Fold the contents where they would push the text down; elsewhere, scroll them to the current page. */
function arrangeContents() {
  const contents = document.getElementById("contents");
  if (matchMedia("(max-width: 56rem)").matches) {
    contents.open = false;
    return;
  }
  const current = contents.querySelector("[aria-current]");
  if (current) contents.scrollTop = current.offsetTop - contents.offsetTop - contents.clientHeight / 2;
}

/** Put a button into each block of code that copies its text. */
function addCopyButtons() {
  for (const block of document.querySelectorAll("article pre")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.addEventListener("click", () => copy(block.textContent, button));
    const frame = document.createElement("div");
    frame.className = "code";
    block.replaceWith(frame);
    frame.append(block, button);
  }
}

/** Open the folds around the place that the address names. */
function openTarget() {
  let fold = document.getElementById(decodeURIComponent(location.hash.slice(1)))?.closest("details");
  while (fold) {
    fold.open = true;
    fold = fold.parentElement.closest("details");
  }
}

/** Return whether a text is an error that a title describes, in which … stands for what differs. */
function isErrorOf(title, text) {
  if (text.length < 12) return false;
  const parts = title.toLowerCase().split("…").map((part) => part.trim()).filter(Boolean);
  return parts.join("").length >= 12 && parts.every((part) => text.includes(part));
}

/** Search the titles of pages and headings for all words of a text, or for the whole of an error. */
function setUpSearch() {
  const box = document.getElementById("search");
  const text = document.getElementById("search-text");
  const count = document.getElementById("search-count");
  const list = document.getElementById("search-found");
  box.hidden = false;
  let index; // a promise of the titles, asked for once

  async function show() {
    const searchedFor = text.value.toLowerCase();
    const words = searchedFor.split(/\s+/).filter(Boolean);
    if (words.length === 0) {
      list.replaceChildren();
      count.textContent = "";
      return;
    }
    index ??= fetchJson(box.dataset.index);
    let titles;
    try {
      titles = await index;
    } catch {
      index = undefined;
      count.textContent = "The search does not answer.";
      return;
    }
    const found = titles.filter(([title, holder]) => {
      const searched = `${title} ${holder}`.toLowerCase();
      return words.every((word) => searched.includes(word)) || isErrorOf(title, searchedFor);
    });
    count.textContent = found.length > MOST_FOUND ? `${found.length} found, the first ${MOST_FOUND}:` : `${found.length} found`;
    list.replaceChildren(...found.slice(0, MOST_FOUND).map(([title, holder, path]) => {
      const item = document.createElement("li");
      const link = document.createElement("a");
      link.href = path;
      link.textContent = title;
      const of = document.createElement("span");
      of.textContent = holder;
      link.append(of);
      item.append(link);
      return item;
    }));
  }

  text.addEventListener("input", show);
  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.closest("input, textarea, select");
    if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      text.focus();
    } else if (event.key === "Escape" && event.target === text) {
      text.value = "";
      show();
    }
  });
}

arrangeContents();
addCopyButtons();
openTarget();
addEventListener("hashchange", openTarget);
setUpSearch();

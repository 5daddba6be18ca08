// JSON that folds. All of it is text: nothing in an event becomes an element, a link or a script.

/** Members of one object that are shown before somebody asks for more. */
const SHOWN = 100;
/** Characters of one text that are shown before somebody asks for more. */
const MAX_TEXT = 2000;

/** Returns an element for a JSON value. `open`: how many levels are unfolded. */
export function tree(value, open) {
  return node(null, value, open);
}

function node(name, value, open) {
  if (value === null || typeof value !== "object") return leaf(name, value);
  const entries = Array.isArray(value) ? value.map((each, index) => [index, each]) : Object.entries(value);
  const kind = Array.isArray(value) ? `[${entries.length}]` : `{${entries.length}}`;
  const details = document.createElement("details");
  const summary = document.createElement("summary");
  if (name !== null) summary.append(span("name", String(name)), ": ");
  summary.append(span("kind", kind));
  details.append(summary);
  const fill = () => {
    if (details.dataset.filled) return;
    details.dataset.filled = "yes";
    addMore(details, entries, 0, open - 1);
  };
  details.addEventListener("toggle", () => details.open && fill());
  if (open > 0) {
    fill();
    details.open = true;
  }
  return details;
}

function addMore(details, entries, from, open) {
  for (const [name, value] of entries.slice(from, from + SHOWN)) details.append(node(name, value, open));
  const rest = entries.length - from - SHOWN;
  if (rest <= 0) return;
  const more = document.createElement("button");
  more.type = "button";
  more.textContent = `Show ${Math.min(rest, SHOWN)} of ${rest} more`;
  more.addEventListener("click", () => {
    more.remove();
    addMore(details, entries, from + SHOWN, open);
  });
  details.append(more);
}

function leaf(name, value) {
  const line = document.createElement("div");
  if (name !== null) line.append(span("name", String(name)), ": ");
  const text = JSON.stringify(value);
  const shown = span(value === null ? "null" : typeof value, text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text);
  line.append(shown);
  if (text.length > MAX_TEXT) {
    const more = document.createElement("button");
    more.type = "button";
    more.textContent = `Show all ${text.length} characters`;
    more.addEventListener("click", () => {
      shown.textContent = text;
      more.remove();
    });
    line.append(" ", more);
  }
  return line;
}

function span(kind, text) {
  const element = document.createElement("span");
  element.className = `json-${kind}`;
  element.textContent = text;
  return element;
}

// The list of events: of 100,000 rows only those on the screen are elements. The newest row is the first.

import { firstAfter } from "./store.js";
import { shownStates } from "./states.js";
import { textOfRow } from "./summary.js";

/** Rows above and below the screen that are elements, too. */
const MARGIN = 6;
const CELLS = ["time", "type", "instance", "chat", "text", "states", "lag"];

export class List {
  rows = [];
  /** The key of the chosen row. */
  chosen = null;
  #slots = [];
  #height = 34;
  #isDue = false;
  /** The row under the pointer when it was pressed: others may be there when it is let go. */
  #pressed;

  constructor(element, sizer, { hasInstances, newest, onOpen, onChoose }) {
    this.element = element;
    this.sizer = sizer;
    this.onOpen = onOpen;
    this.onChoose = onChoose;
    element.classList.toggle("with-instances", hasInstances);
    element.addEventListener("scroll", () => {
      newest.hidden = element.scrollTop === 0;
      this.schedule();
    }, { passive: true });
    newest.addEventListener("click", () => {
      this.scrollTo(0);
      element.focus();
    });
    element.addEventListener("pointerdown", (event) => { this.#pressed = this.#rowOf(event.target); });
    element.addEventListener("click", () => this.#clicked());
    element.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.#measure()).observe(element);
    this.#measure();
  }

  /** Shows these rows, the oldest first. A reader who has scrolled away from the top keeps his place. */
  show(rows) {
    const top = this.element.scrollTop;
    const anchor = top > 0 ? this.rowAt(Math.floor(top / this.#height)) : undefined;
    const within = top % this.#height;
    this.rows = rows;
    this.sizer.style.height = `${rows.length * this.#height}px`;
    if (anchor) {
      const index = this.indexOf(anchor.key);
      if (index >= 0) this.element.scrollTop = index * this.#height + within;
    }
    this.render();
  }

  schedule() {
    if (this.#isDue) return;
    this.#isDue = true;
    requestAnimationFrame(() => {
      this.#isDue = false;
      this.render();
    });
  }

  /** Returns the row at a position from the top. */
  rowAt(index) {
    return this.rows[this.rows.length - 1 - index];
  }

  /** Returns the position from the top of the row with a key, -1 if it is not shown. */
  indexOf(key) {
    const found = firstAfter(this.rows, key) - 1;
    return found >= 0 && this.rows[found].key === key ? this.rows.length - 1 - found : -1;
  }

  get visible() {
    const first = Math.max(0, Math.floor(this.element.scrollTop / this.#height));
    const last = Math.min(this.rows.length, first + Math.ceil(this.element.clientHeight / this.#height) + 1);
    return Array.from({ length: Math.max(0, last - first) }, (_, index) => this.rowAt(first + index));
  }

  /** The row at the top of the screen, null while the newest is. */
  get topRow() {
    return this.element.scrollTop > 0 ? (this.rowAt(Math.floor(this.element.scrollTop / this.#height)) ?? null) : null;
  }

  scrollTo(index) {
    this.element.scrollTop = index * this.#height;
    this.render();
  }

  /** Chooses the row so many rows further down; the first one if none is chosen. */
  move(step) {
    if (!this.rows.length) return;
    const now = this.chosen === null ? -1 : this.indexOf(this.chosen);
    const next = now < 0 ? 0 : Math.max(0, Math.min(this.rows.length - 1, now + step));
    this.choose(this.rowAt(next));
  }

  choose(row) {
    this.chosen = row ? row.key : null;
    if (row) {
      const top = this.indexOf(row.key) * this.#height;
      const { scrollTop, clientHeight } = this.element;
      if (top < scrollTop) this.element.scrollTop = top;
      else if (top + this.#height > scrollTop + clientHeight) this.element.scrollTop = top + this.#height - clientHeight;
      this.onChoose(row);
    }
    this.render();
  }

  get chosenRow() {
    const index = this.chosen === null ? -1 : this.indexOf(this.chosen);
    return index < 0 ? null : this.rowAt(index);
  }

  render() {
    const first = Math.max(0, Math.floor(this.element.scrollTop / this.#height) - MARGIN);
    const count = Math.ceil(this.element.clientHeight / this.#height) + 2 * MARGIN;
    const last = Math.min(this.rows.length, first + count);
    while (this.#slots.length < last - first) this.#slots.push(this.#slot());
    let active = "";
    this.#slots.forEach((slot, position) => {
      const index = first + position;
      const row = index < last ? this.rowAt(index) : undefined;
      slot.element.hidden = !row;
      slot.row = row;
      if (!row) return;
      fill(slot, row, index, this.rows.length);
      slot.element.style.transform = `translateY(${index * this.#height}px)`;
      const isChosen = row.key === this.chosen;
      slot.element.setAttribute("aria-selected", String(isChosen));
      if (isChosen) active = slot.element.id;
    });
    if (active) this.element.setAttribute("aria-activedescendant", active);
    else this.element.removeAttribute("aria-activedescendant");
  }

  #measure() {
    this.#height = parseFloat(getComputedStyle(this.element).getPropertyValue("--row")) || 34;
    this.sizer.style.height = `${this.rows.length * this.#height}px`;
    this.schedule();
  }

  #slot() {
    const element = document.createElement("div");
    element.className = "row";
    element.id = `row-${this.#slots.length}`;
    element.setAttribute("role", "option");
    const cells = {};
    for (const name of CELLS) {
      cells[name] = document.createElement("span");
      cells[name].className = `cell-${name}`;
      element.append(cells[name]);
    }
    this.sizer.append(element);
    return { element, cells, row: undefined, textOf: null };
  }

  #rowOf(target) {
    const element = target.closest(".row");
    return this.#slots.find((each) => each.element === element)?.row;
  }

  #clicked() {
    const row = this.#pressed;
    if (!row) return;
    this.choose(row);
    this.onOpen(row);
  }

  #key(event) {
    const page = Math.max(1, Math.floor(this.element.clientHeight / this.#height) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key in steps && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      this.move(steps[event.key]);
    } else if (event.key === "Enter" && this.chosenRow) {
      event.preventDefault();
      this.onOpen(this.chosenRow);
    }
  }
}

function fill(slot, row, index, count) {
  const { element, cells } = slot;
  set(cells.time, timeOf(row.at));
  set(cells.type, row.type);
  set(cells.instance, row.instance);
  set(cells.chat, row.chat);
  if (slot.textOf !== row) {
    set(cells.text, textOfRow(row));
    slot.textOf = row;
  }
  const states = shownStates(row.states);
  set(cells.states, states.text);
  if (cells.states.dataset.tone !== states.tone) cells.states.dataset.tone = states.tone;
  if (cells.states.title !== states.title) cells.states.title = states.title;
  set(cells.lag, row.lag === null ? "" : shownLag(row.lag));
  element.classList.toggle("gap", row.gap !== null);
  element.dataset.kind = row.type.split(".")[0];
  element.setAttribute("aria-posinset", String(index + 1));
  element.setAttribute("aria-setsize", String(count));
}

function set(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Returns a time of today as hours to milliseconds, and the date before another day's. */
export function timeOf(at) {
  if (Number.isNaN(at)) return "";
  const date = new Date(at);
  const pad = (number, width = 2) => String(number).padStart(width, "0");
  const time = `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}.${pad(date.getMilliseconds(), 3)}`;
  const isToday = Date.now() - at < 86_400_000 && new Date().getDate() === date.getDate();
  return isToday ? time : `${pad(date.getMonth() + 1)}-${pad(date.getDate())} ${time.slice(0, 8)}`;
}

export function shownLag(milliseconds) {
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  if (milliseconds < 60_000) return `${(milliseconds / 1000).toFixed(1)} s`;
  return `${Math.round(milliseconds / 60_000)} min`;
}

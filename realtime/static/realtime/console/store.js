// The events that the page holds, and those of them that the filters let through. Both are bounded.

import { empty } from "./summary.js";

export const MAX_ROWS = 100_000;
/** Rows that are dropped at a time, once there are so many too many. */
const CHUNK = 1000;
/** Characters of envelopes that are kept in all; beyond, those of the oldest rows are fetched when they are opened. */
const MAX_CHARACTERS = 90_000_000;
/** Milliseconds in which rows are filtered in one piece. */
const SLICE = 8;

/** All rows, the oldest first. Keys grow from each to the next. */
export class Store {
  rows = [];
  dropped = 0;
  #characters = 0;
  /** Rows before this one have no envelope any more. */
  #emptied = 0;

  /** Adds newer rows. */
  append(rows) {
    let key = this.rows.length ? Math.floor(this.rows[this.rows.length - 1].key) : 0;
    for (const row of rows) {
      row.key = ++key;
      this.rows.push(row);
      if (row.body !== null) this.#characters += row.body.length;
    }
    this.#bound();
  }

  /** Adds rows that are older than all others; returns how many there was room for, the newest of them. */
  prepend(rows) {
    const room = Math.max(0, MAX_ROWS - this.rows.length);
    const added = room < rows.length ? rows.slice(rows.length - room) : rows;
    let key = this.rows.length ? Math.ceil(this.rows[0].key) : added.length + 1;
    for (let index = added.length - 1; index >= 0; index--) {
      added[index].key = --key;
      if (added[index].body !== null) this.#characters += added[index].body.length;
    }
    this.rows = added.concat(this.rows);
    this.#emptied = 0;
    this.#bound();
    return added.length;
  }

  /** Puts rows in the place of one. */
  replace(row, rows) {
    const at = this.rows.indexOf(row);
    if (at < 0) return;
    const before = at > 0 ? this.rows[at - 1].key : row.key - 1;
    rows.forEach((each, index) => {
      each.key = before + ((row.key - before) * (index + 1)) / (rows.length + 1);
      if (each.body !== null) this.#characters += each.body.length;
    });
    this.rows.splice(at, 1, ...rows);
  }

  clear() {
    this.rows = [];
    this.#characters = this.#emptied = this.dropped = 0;
  }

  #bound() {
    if (this.rows.length >= MAX_ROWS + CHUNK) {
      const count = this.rows.length - MAX_ROWS;
      for (const row of this.rows.splice(0, count)) {
        if (row.body !== null) this.#characters -= row.body.length;
      }
      this.dropped += count;
      this.#emptied = Math.max(0, this.#emptied - count);
    }
    while (this.#characters > MAX_CHARACTERS && this.#emptied < this.rows.length) {
      const row = this.rows[this.#emptied++];
      if (row.body !== null) {
        this.#characters -= row.body.length;
        empty(row);
      }
    }
  }
}

/** The rows that match a filter, the oldest first. While it is paused it stays as it is. */
export class View {
  rows = [];
  isPaused = false;
  /** Matching rows that came since it was paused. */
  waiting = 0;
  #matches = () => true;
  #scan = null;
  #pausedAt = Infinity;

  constructor(store, changed) {
    this.store = store;
    this.changed = changed;
  }

  get isFiltering() {
    return this.#scan !== null;
  }

  setFilter(matches) {
    this.#matches = matches;
    this.refresh();
  }

  pause() {
    this.isPaused = true;
    this.waiting = 0;
    this.#pausedAt = this.store.rows.length ? this.store.rows[this.store.rows.length - 1].key : -Infinity;
  }

  resume() {
    this.isPaused = false;
    this.waiting = 0;
    this.#pausedAt = Infinity;
    this.refresh();
  }

  /** Takes rows that the store has appended. */
  appended(rows) {
    if (this.#scan) return; // which comes to them
    const found = rows.filter(this.#matches);
    if (this.isPaused) {
      this.waiting += found.length;
    } else {
      for (const row of found) this.rows.push(row);
      this.#trim();
    }
    this.changed();
  }

  /** Filters all rows anew, in slices. */
  refresh() {
    const scan = { after: -Infinity, found: [], upto: this.#pausedAt };
    this.#scan = scan;
    const step = () => {
      if (this.#scan !== scan) return;
      const rows = this.store.rows;
      let index = firstAfter(rows, scan.after);
      const end = performance.now() + SLICE;
      while (index < rows.length) {
        const row = rows[index++];
        scan.after = row.key;
        if (row.key > scan.upto) break;
        if (this.#matches(row)) scan.found.push(row);
        if ((index & 255) === 0 && performance.now() > end) {
          setTimeout(step);
          return;
        }
      }
      this.rows = scan.found;
      this.#scan = null;
      this.#trim();
      this.changed();
    };
    step();
  }

  #trim() {
    const first = this.store.rows.length ? this.store.rows[0].key : Infinity;
    if (this.rows.length && this.rows[0].key < first) this.rows.splice(0, firstAfter(this.rows, first - 1e-9));
  }
}

/** Returns the index of the first row whose key is above this. */
export function firstAfter(rows, key) {
  let low = 0;
  let high = rows.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rows[middle].key > key) high = middle;
    else low = middle + 1;
  }
  return low;
}

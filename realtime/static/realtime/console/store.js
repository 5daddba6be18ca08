// The events that the page holds, and those of them that the filters let through. Both are bounded.

import { empty } from "./summary.js";

export const MAX_ROWS = 100_000;
/** Rows that are dropped at a time, once there are so many too many. */
const CHUNK = 1000;
/** Characters of envelopes that are kept in all; beyond, those of the oldest rows are fetched when they are opened. */
const MAX_CHARACTERS = 90_000_000;
/** Milliseconds in which rows are filtered in one piece. */
const SLICE = 8;

/** All rows, the oldest first. Keys grow from each to the next; that of a row which is gone is not given again. */
export class Store {
  rows = [];
  dropped = 0;
  /** Rows that stand for missed events. */
  gaps = 0;
  /** The highest key that was given. */
  lastKey = 0;
  #firstKey = 1;
  #characters = 0;
  /** Rows before this one have no envelope any more. */
  #emptied = 0;

  /** Adds newer rows. */
  append(rows) {
    for (const row of rows) {
      row.key = ++this.lastKey;
      this.rows.push(row);
      this.#count(row, 1);
    }
    this.#bound();
  }

  /** Adds rows that are older than all others, the newest of them if there is no room for all. */
  prepend(rows) {
    const room = Math.max(0, MAX_ROWS - this.rows.length);
    const added = room < rows.length ? rows.slice(rows.length - room) : rows;
    for (let index = added.length - 1; index >= 0; index--) {
      added[index].key = --this.#firstKey;
      this.#count(added[index], 1);
    }
    this.rows = added.concat(this.rows);
    this.#emptied = 0;
    this.#bound();
  }

  /**
   * Puts events of a gap in the place of its row, and behind them `rest`, the row of those that are still missing. Returns false if the
   * gap's row is not held any more.
   */
  replace(row, rows, rest = null) {
    const at = this.rows.indexOf(row);
    if (at < 0) return false;
    const { after, before } = row.gap;
    const from = at > 0 ? this.rows[at - 1].key : row.key - 1;
    // by their seqs: the keys of a large gap that is loaded in parts stay as far apart in each
    for (const each of rows) each.key = from + ((row.key - from) * (each.seq - after)) / (before - after);
    if (rest) rest.key = row.key;
    const added = rest ? [...rows, rest] : rows;
    for (const each of added) this.#count(each, 1);
    this.#count(row, -1);
    this.rows.splice(at, 1, ...added);
    this.#emptied = Math.min(this.#emptied, at);
    this.#bound();
    return true;
  }

  clear() {
    this.rows = [];
    this.#characters = this.#emptied = this.dropped = this.gaps = 0;
  }

  /** Adds what a row counts for; takes it away with a `sign` of -1. */
  #count(row, sign) {
    if (row.gap) this.gaps += sign;
    if (row.body !== null) this.#characters += sign * row.body.length;
  }

  #bound() {
    if (this.rows.length >= MAX_ROWS + CHUNK) {
      const count = this.rows.length - MAX_ROWS;
      for (const row of this.rows.splice(0, count)) this.#count(row, -1);
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
    this.#pausedAt = this.store.lastKey;
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
    const scan = { after: -Infinity, found: [], waiting: 0 };
    this.#scan = scan;
    const step = () => {
      if (this.#scan !== scan) return;
      const rows = this.store.rows;
      let index = firstAfter(rows, scan.after);
      const end = performance.now() + SLICE;
      while (index < rows.length) {
        const row = rows[index++];
        scan.after = row.key;
        if (this.#matches(row)) {
          if (row.key <= this.#pausedAt) scan.found.push(row); // it may be paused while this goes on
          else scan.waiting += 1;
        }
        if ((index & 255) === 0 && performance.now() > end) {
          setTimeout(step);
          return;
        }
      }
      this.rows = scan.found;
      this.waiting = scan.waiting;
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

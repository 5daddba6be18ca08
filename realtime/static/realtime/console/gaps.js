// What the page has missed between two events that came. Some of it comes late, some is loaded: each event has one row.

import { rowOfGap } from "./summary.js";

/** Gaps that are kept in mind, as an event of one may come late. */
const MAX_GAPS = 100;

/** The events of an instance with seqs above `after` and below `before`. */
class Gap {
  /** Seqs of those that have a row of their own by now. */
  known = new Set();

  /** `at`: the time of the event behind the gap. */
  constructor(instance, epoch, after, before, at) {
    Object.assign(this, { instance, epoch, after, before });
    /** The row that stands for those that have none. */
    this.row = rowOfGap(this, after, at);
  }

  has(instance, epoch, seq) {
    return this.instance === instance && this.epoch === epoch && this.after < seq && seq < this.before;
  }

  get isFull() {
    return this.known.size >= this.before - this.after - 1;
  }

  /** Takes rows of events that were loaded. Returns those of events that have no row yet. */
  take(rows) {
    const added = rows.filter((row) => !this.known.has(row.seq));
    for (const row of added) this.known.add(row.seq);
    return added;
  }

  /** Sets the row that stands for what is missing behind this seq; returns it. */
  goOn(after) {
    this.row = rowOfGap(this, after, this.row.at);
    return this.row;
  }
}

export class Gaps {
  #gaps = [];

  /** Adds a gap; returns its row. */
  add(...values) {
    const gap = new Gap(...values);
    this.#gaps.push(gap);
    if (this.#gaps.length > MAX_GAPS) this.#gaps.shift();
    return gap.row;
  }

  /** Takes an event that comes after later ones. Returns its gap; undefined if it has none, or a row already. */
  takeLate(instance, epoch, seq) {
    const gap = this.#gaps.find((each) => each.has(instance, epoch, seq));
    if (!gap || gap.known.has(seq)) return undefined;
    gap.known.add(seq);
    return gap;
  }
}

// The states of deliveries of the events on the screen, asked for every few seconds.

import { fetchJson } from "../server.js";

const INTERVAL = 3000;
/** The marks of states, the worst first. */
const MARKS = { dead: "✕", dropped: "✕", pending: "…", delivered: "✓" };
const NOTHING = { text: "", words: "", title: "", tone: "" };

/** Returns the text of a row, all of it in words, its title and its tone for numbers of deliveries by state. */
export function shownStates(states) {
  if (!states) return NOTHING;
  const found = Object.entries(MARKS).filter(([state]) => states[state]);
  if (!found.length) return NOTHING;
  const words = found.map(([state]) => `${states[state]} ${state}`).join(", ");
  return {
    words,
    text: `${found[0][1]} ${states[found[0][0]]} ${found[0][0]}`,
    title: `Deliveries: ${words}`,
    tone: states.dead || states.dropped ? "bad" : states.pending ? "soft" : "good",
  };
}

export class States {
  constructor(url, list) {
    this.url = url;
    this.list = list;
    this.#again();
  }

  #again() {
    setTimeout(async () => {
      if (!document.hidden) await this.#ask().catch(() => {}); // the next one may succeed
      this.#again();
    }, INTERVAL);
  }

  async #ask() {
    const rows = this.list.visible.filter((row) => row && row.gap === null && row.seq);
    if (!rows.length) return;
    const query = new URLSearchParams(rows.map((row) => ["of", `${row.seq}@${row.instance}`]));
    const { states } = await fetchJson(`${this.url}?${query}`);
    for (const row of rows) row.states = states[`${row.seq}@${row.instance}`] ?? null;
    this.list.render();
  }
}

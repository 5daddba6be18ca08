// Events without their content, for users who may not read it: asked for every two seconds, without a socket.

import { fetchJson, NoAccess } from "../server.js";
import { rowWithoutContent } from "./summary.js";

const INTERVAL = 2000;

export class Poll {
  /** `handlers` are those of Live. */
  constructor(config, handlers) {
    this.config = config;
    this.handlers = handlers;
    this.spaces = config.namespaces.map((each) => ({ ...each, next: "", ended: false }));
    this.offsets = {};
    this.hasOlder = false;
  }

  /** There is none. */
  socketOf() {
    return undefined;
  }

  async start(offsets, count) {
    const limit = Math.max(10, Math.ceil(count / this.spaces.length));
    this.handlers.earlier(await this.#ask(limit));
    this.#again();
  }

  #again() {
    // many instances are asked for less often
    setTimeout(async () => {
      const rows = await this.#ask(this.config.page);
      if (rows.length) this.handlers.rows(rows);
      if (this.spaces.some((space) => !space.ended)) this.#again();
    }, INTERVAL * Math.max(1, this.spaces.length / 5));
  }

  async #ask(limit) {
    const rows = [];
    let isAway = false;
    for (const space of this.spaces.filter((each) => !each.ended)) {
      try {
        const query = new URLSearchParams({ limit: String(limit), after: space.next });
        const page = await fetchJson(`${space.data}rows?${query}`);
        space.next = page.next;
        rows.push(...page.rows.map(rowWithoutContent));
      } catch (error) {
        if (error instanceof NoAccess) this.#end(space, error);
        else isAway = true;
      }
    }
    const ended = this.spaces.every((space) => space.ended);
    if (ended) this.handlers.state("Ended", "bad");
    else this.handlers.state(isAway ? "Reconnecting" : "Every 2 seconds", isAway ? "warn" : "good");
    return rows.sort((one, other) => one.at - other.at);
  }

  #end(space, error) {
    space.ended = true;
    this.handlers.ended(error, space.instance);
  }
}

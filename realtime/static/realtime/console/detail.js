// The chosen event beside the list: its facts, and its JSON that folds.

import { copy } from "../copy.js";
import { fetchJson } from "../server.js";
import { shownLag, timeOf } from "./list.js";
import { shownStates } from "./states.js";
import { tree } from "./tree.js";

export class Detail {
  row = null;

  constructor(config, closed) {
    this.config = config;
    this.element = document.getElementById("detail");
    this.json = document.getElementById("detail-json");
    document.getElementById("detail-close").addEventListener("click", () => { this.close(); closed(); });
    const button = document.getElementById("detail-copy");
    button.hidden = !config.hasContent;
    button.addEventListener("click", async () => {
      const envelope = await this.#envelope(this.row);
      if (envelope) copy(JSON.stringify(envelope, null, 2), button);
    });
  }

  get isOpen() {
    return !this.element.hidden;
  }

  async show(row) {
    this.row = row;
    this.element.hidden = false;
    this.element.parentElement.classList.add("with-detail");
    document.getElementById("detail-title").textContent = row.type;
    document.getElementById("detail-page").href = this.pageOf(row);
    document.getElementById("detail-facts").replaceChildren(
      ...facts({ Instance: row.instance, Id: row.id, Time: timeOf(row.at), Chat: row.chat, Latency: row.lag === null ? "" : shownLag(row.lag), Deliveries: shownStates(row.states).words }),
    );
    this.json.replaceChildren();
    this.#showAudience(row);
    if (!this.config.hasContent) return;
    const envelope = await this.#envelope(row);
    if (this.row !== row) return;
    this.json.replaceChildren(envelope ? tree(envelope, 3) : "It is not kept any more.");
  }

  close() {
    this.element.hidden = true;
    this.element.parentElement.classList.remove("with-detail");
    this.row = null;
  }

  pageOf(row) {
    return `${this.config.base}${encodeURIComponent(row.instance)}/${row.id}`;
  }

  async #showAudience(row) {
    const list = document.getElementById("detail-audience");
    list.replaceChildren();
    if (!this.config.hasAudience) return;
    const { audience } = await fetchJson(`${this.pageOf(row)}/audience`).catch(() => ({ audience: [] }));
    if (this.row !== row) return;
    list.replaceChildren(...audience.map(({ state, text }) => {
      const item = document.createElement("li");
      const dot = document.createElement("span");
      const words = document.createElement("span");
      dot.className = "dot";
      dot.ariaHidden = "true";
      words.textContent = text;
      item.dataset.state = state;
      item.append(dot, words);
      return item;
    }));
  }

  async #envelope(row) {
    if (row.body !== null) return JSON.parse(row.body);
    return fetchJson(`${this.pageOf(row)}/envelope`).catch(() => null);
  }
}

function facts(values) {
  return Object.entries(values).filter(([, value]) => value).map(([name, value]) => {
    const line = document.createElement("div");
    const term = document.createElement("dt");
    const text = document.createElement("dd");
    term.textContent = name;
    text.textContent = value;
    line.append(term, text);
    return line;
  });
}

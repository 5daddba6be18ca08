// The filters by type, text and chat. They stand in the page's URL, so that it can be sent to somebody.

const DELAY = 120;

export class Filters {
  constructor(changed) {
    this.changed = changed;
    this.text = document.getElementById("text");
    this.chat = document.getElementById("chat");
    this.boxes = [...document.querySelectorAll("#types input")];
    this.#read();
    for (const field of [this.text, this.chat]) field?.addEventListener("input", () => this.#soon());
    for (const box of this.boxes) box.addEventListener("change", () => this.#apply());
    document.getElementById("types-none").addEventListener("click", () => {
      for (const box of this.boxes) box.checked = false;
      this.#apply();
    });
    const menu = document.getElementById("types");
    document.addEventListener("click", (event) => { if (!menu.contains(event.target)) menu.open = false; });
    menu.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      menu.open = false;
      menu.querySelector("summary").focus();
      event.stopPropagation();
    });
    addEventListener("popstate", () => { this.#read(); this.#apply(); });
    this.#showTypes();
  }

  get types() {
    return this.boxes.filter((box) => box.checked).map((box) => box.value);
  }

  get isActive() {
    return Boolean(this.types.length || this.text.value.trim() || this.chat?.value.trim());
  }

  /** Returns the function that decides whether a row is shown. */
  get matches() {
    const types = new Set(this.types);
    const text = pattern(this.text.value);
    const inJson = pattern(JSON.stringify(this.text.value.trim()).slice(1, -1));
    const chat = pattern(this.chat?.value ?? "");
    return (row) => {
      if (row.gap) return true; // what is missing may match
      if (types.size && !types.has(row.type)) return false;
      if (chat && !chat.test(row.chat)) return false;
      if (!text) return true;
      if (row.body !== null) return inJson.test(row.body); // it has all of these, too
      return [row.text ?? "", row.type, row.instance, row.id].some((each) => text.test(each));
    };
  }

  #read() {
    const query = new URLSearchParams(location.search);
    this.text.value = query.get("text") ?? "";
    if (this.chat) this.chat.value = query.get("chat") ?? "";
    const types = new Set((query.get("type") ?? "").split(","));
    for (const box of this.boxes) box.checked = types.has(box.value);
  }

  #soon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#apply(), DELAY);
  }

  #apply() {
    const query = new URLSearchParams();
    if (this.types.length) query.set("type", this.types.join(","));
    if (this.text.value.trim()) query.set("text", this.text.value.trim());
    if (this.chat?.value.trim()) query.set("chat", this.chat.value.trim());
    const search = query.toString().replaceAll("%2C", ",");
    history.replaceState(null, "", location.pathname + (search && `?${search}`));
    this.#showTypes();
    this.changed();
  }

  #showTypes() {
    const { types } = this;
    const shown = types.length === 1 ? types[0] : `${types.length} types`;
    document.getElementById("types-chosen").textContent = types.length ? shown : "All types";
  }
}

function pattern(text) {
  const trimmed = text.trim();
  return trimmed ? new RegExp(trimmed.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), "i") : null;
}

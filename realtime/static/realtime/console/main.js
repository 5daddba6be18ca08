// The console's page: its parts, and what passes between them.

import { chooser } from "./chooser.js";
import { codePanel } from "./code.js";
import { Detail } from "./detail.js";
import { download } from "./download.js";
import { Filters } from "./filters.js";
import { keys } from "./keys.js";
import { List, shownLag } from "./list.js";
import { Live } from "./live.js";
import { keep, recall } from "./memory.js";
import { Poll } from "./poll.js";
import { sendBox } from "./send.js";
import { States } from "./states.js";
import { MAX_ROWS, Store, View } from "./store.js";
import { textOfRow } from "./summary.js";

/** Events that a first visit shows; earlier ones come on request. */
const FIRST = 100;
const LAGS = 50;
/** Milliseconds for which a sentence is shown. */
const NOTE = 20_000;

const byId = (id) => document.getElementById(id);
const config = JSON.parse(byId("console").dataset.config);
const memory = recall();
const store = new Store();
const view = new View(store, () => show());
const detail = new Detail(config, () => byId("list").focus());
const list = new List(byId("list"), byId("sizer"), {
  newest: byId("newest"),
  hasInstances: config.instance === null,
  onOpen: open,
  onChoose: (row) => { if (detail.isOpen && !row.gap) detail.show(row); },
});
const filters = new Filters(() => { view.setFilter(filters.matches); showCode(); });
const showCode = codePanel(config, filters);

// Handlers of the source of events

let isDue = false;
let received = 0;
let noteTimer = 0;
const lags = [];
const handlers = {
  rows(rows, filled = []) {
    received += rows.length;
    showConnection(rows);
    store.append(rows);
    for (const row of filled) store.replace(row, []);
    if (filled.length && !view.isPaused) view.refresh();
    else view.appended(rows);
  },
  earlier(rows) {
    store.append(rows);
    view.refresh();
    restore();
  },
  state(text, tone) {
    const element = byId("state");
    if (element.textContent !== text) element.textContent = text;
    element.dataset.tone = tone;
  },
  note,
  ended(error, instance) {
    if (error.isSignedOut) {
      const href = `${config.logIn}?next=${encodeURIComponent(location.pathname + location.search)}`;
      note(`${error.message} Log in to go on where you were.`, { text: "Log in", href });
    } else {
      note(instance ? `${instance}: ${error.message}` : error.message, undefined, true);
    }
  },
  session(text) {
    byId("session").textContent = text;
  },
  lag(milliseconds) {
    lags.push(milliseconds);
    if (lags.length > LAGS) lags.shift();
  },
};

/** Shows the state of the instance's connection to WhatsApp, once an event reports another one. */
function showConnection(rows) {
  const last = byId("connection") && rows.findLast((row) => row.type === "connection.update");
  if (last) byId("connection").textContent = textOfRow(last).split(" ")[0] || byId("connection").textContent;
}

/** Shows a sentence for a while; with a link, or if it `stays`, until another one comes. */
function note(text, link, stays = Boolean(link)) {
  const element = byId("note");
  clearTimeout(noteTimer);
  if (!stays) noteTimer = setTimeout(() => { element.hidden = true; }, NOTE);
  element.hidden = !text;
  element.textContent = text;
  if (link) {
    const anchor = document.createElement("a");
    anchor.href = link.href;
    anchor.textContent = link.text;
    element.append(" ", anchor);
  }
}

// Showing

function show() {
  if (isDue) return;
  isDue = true;
  const draw = () => {
    isDue = false;
    list.show(view.rows);
    byId("count").textContent = store.rows.length.toLocaleString("en");
    showGaps();
    const { waiting, isPaused } = view;
    byId("pausing").hidden = !isPaused;
    byId("pausing-text").textContent = waiting ? `Paused: ${waiting.toLocaleString("en")} new` : "Paused";
    showFoot();
  };
  if (document.hidden) setTimeout(draw, 500);
  else requestAnimationFrame(draw);
}

function showGaps() {
  const element = byId("missed");
  const { gaps } = store;
  element.textContent = gaps ? `${gaps} ${gaps === 1 ? "gap" : "gaps"}` : "0";
  element.className = gaps ? "bad" : "";
}

function showFoot() {
  const parts = [];
  if (filters.isActive) parts.push(`${view.rows.length.toLocaleString("en")} of ${store.rows.length.toLocaleString("en")} events match`);
  if (view.isFiltering) parts.push("filtering");
  if (store.dropped) parts.push(`${store.dropped.toLocaleString("en")} older ones were let go: this page keeps ${MAX_ROWS.toLocaleString("en")}, the log has them all`);
  byId("shown").textContent = parts.join(" · ");
  byId("older").hidden = !source.hasOlder || store.rows.length >= MAX_ROWS;
  const empty = byId("empty");
  empty.hidden = view.rows.length > 0 || view.isFiltering;
  empty.textContent = store.rows.length ? "No event matches the filters." : "No event yet. The next one appears here by itself.";
}

setInterval(() => {
  byId("rate").textContent = `${received}/s`;
  received = 0;
  const sorted = lags.toSorted((one, other) => one - other);
  byId("latency").textContent = sorted.length ? shownLag(sorted[sorted.length >> 1]) : "–";
}, 1000);

// Acting

async function open(row) {
  if (!row.gap) {
    await detail.show(row);
    return;
  }
  if (row.gap.isLoading) return;
  row.gap.isLoading = true;
  try {
    const { rows, rest, found } = await source.loadGap(row);
    const isHeld = store.replace(row, rows, rest);
    view.refresh();
    if (isHeld || !rows.length) note(sentenceOfGap(rows.length, rest, found)); // otherwise all was cleared meanwhile
  } catch (error) {
    note(`They could not be loaded: ${error.message}`);
  }
  row.gap.isLoading = false;
}

/** Returns what became of a gap's row, in words. `found`: how many of its events the server has. */
function sentenceOfGap(loaded, rest, found) {
  const left = rest ? " Those that are still missing have a row of their own." : "";
  if (loaded) return `Loaded ${loaded.toLocaleString("en")} missed ${loaded === 1 ? "event" : "events"}.${left}`;
  if (found) return `They came late, and are in the list.${left}`;
  return rest ? "They cannot be read now. Open the row again later." : "The missed events are not kept any more, or cannot be read now.";
}

function pause(isPaused) {
  if (isPaused) {
    view.pause();
    pausedAt = source.offsets;
  } else {
    view.resume();
  }
  byId("pause").setAttribute("aria-pressed", String(isPaused));
  byId("pause").textContent = isPaused ? "Go on" : "Pause";
  show();
}

async function loadOlder() {
  const button = byId("older");
  button.disabled = true;
  try {
    const rows = await source.loadOlder(500);
    store.prepend(rows);
    view.refresh();
    if (filters.isActive) note(`Loaded ${rows.length} earlier events; ${rows.filter(filters.matches).length} of them match the filters.`);
  } catch (error) {
    note(`They could not be loaded: ${error.message}`);
  }
  button.disabled = false;
}

byId("pause").addEventListener("click", () => pause(!view.isPaused));
byId("resume").addEventListener("click", () => pause(false));
byId("older").addEventListener("click", loadOlder);
byId("download").addEventListener("click", () => download(view.rows, config.instance ?? "all", note));
byId("clear").addEventListener("click", () => {
  store.clear();
  view.refresh();
  detail.close();
  list.choose(null);
});

/** Shows or hides one of the tools. */
function toggle(name) {
  const [tool, button] = [byId(name), byId(`${name}-toggle`)];
  tool.hidden = !tool.hidden;
  button.setAttribute("aria-expanded", String(!tool.hidden));
  if (!tool.hidden) tool.querySelector("input, textarea, button")?.focus();
}
for (const name of ["send", "code", "keys"]) byId(`${name}-toggle`)?.addEventListener("click", () => toggle(name));

keys({
  "/": () => byId("text").select(),
  " ": () => pause(!view.isPaused),
  j: () => list.move(1),
  k: () => list.move(-1),
  e: () => { const row = detail.row ?? list.chosenRow; if (row && !row.gap) location.href = detail.pageOf(row); },
  Enter: () => { if (list.chosenRow) open(list.chosenRow); },
  "?": () => toggle("keys"),
  Escape: () => {
    if (detail.isOpen) detail.close();
    else for (const name of ["send", "code", "keys"]) if (byId(name) && !byId(name).hidden) toggle(name);
    byId("list").focus();
  },
});
chooser(config);

// Beginning, where this tab was before it was reloaded

let pausedAt = memory.offsets ?? {};
let hasBegun = false;

function restore() {
  hasBegun = true;
  if (memory.isPaused) pause(true);
  pausedAt = memory.offsets ?? source.offsets;
  const find = (id) => (id ? store.rows.findLast((row) => row.id === id) : undefined);
  requestAnimationFrame(() => {
    const [top, chosen] = [find(memory.top), find(memory.chosen)];
    if (chosen) list.choose(chosen);
    if (chosen && memory.isOpen) detail.show(chosen);
    const index = top ? list.indexOf(top.key) : -1;
    if (index > 0) list.scrollTo(index);
  });
}

const hasClient = !config.hasSocket || typeof io !== "undefined";
const source = hasClient && config.hasSocket ? new Live(config, handlers) : new Poll(config, handlers);
if (!hasClient) note("Socket.IO's client is not installed on this server: run `make setup`. Until then this page shows types and times, every two seconds.", undefined, true);
view.setFilter(filters.matches);
sendBox(config, source);
if (config.hasStates) new States(`${config.base}all/instances/states`, list);
keep(() => (hasBegun
  ? {
      offsets: view.isPaused ? pausedAt : source.offsets,
      count: Math.min(config.page, store.rows.length),
      isPaused: view.isPaused,
      chosen: list.chosenRow?.id,
      isOpen: detail.isOpen,
      top: list.topRow?.id,
    }
  : memory));
source.start(memory.offsets ?? {}, Math.max(FIRST, memory.count ?? 0));

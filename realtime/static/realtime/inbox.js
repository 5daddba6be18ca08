// The page of one inbox: asks every two seconds for what has come, and shows it, always as text.

import { setUpCopyButtons } from "./copy.js";
import { formattedJson } from "./json-text.js";
import { fetchJson, NoAccess } from "./server.js";

const INTERVAL = 2000;
const VERDICTS = { valid: "Signature valid", invalid: "Signature wrong", unsigned: "Not signed", unchecked: "Signature not checked" };
const REFUSED = "You may no longer see what events say.";
const BESIDE = matchMedia("(min-width: 56rem)"); // the chosen request is shown beside the list

const byId = (id) => document.getElementById(id);
const url = byId("inbox").dataset.requests;
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

let last = 0; // the number of the newest request
let chosen = null; // the request that is shown, with its body
let isOver = false; // true once asking again is in vain
let timer = null;
let isAsking = false;
let asked = null; // the number of the request that was chosen last

// What has come

async function look() {
  timer = null;
  if (isOver || isAsking || document.hidden) return;
  isAsking = true;
  try {
    const reasons = { 403: REFUSED, 404: "This inbox has expired, or was deleted. What is posted to it is answered 404." };
    show(await fetchJson(`${url}?after=${last}`, { reasons }));
  } catch (error) {
    isOver = error instanceof NoAccess;
    status(isOver ? reasonOf(error) : "The server does not answer. This page tries again.");
  } finally {
    isAsking = false;
  }
  wait();
}

function wait() {
  if (!isOver && !document.hidden && timer === null) timer = setTimeout(look, INTERVAL);
}

// Return why the user may not see this any more.
function reasonOf(error) {
  return error.isSignedOut ? `${error.message} Load this page again to log in.` : error.message;
}

function status(text) {
  if (byId("status").textContent !== text) byId("status").textContent = text; // said aloud only when it changes
}

function show({ oldest, requests }) {
  const list = byId("list");
  for (const request of requests) {
    last = request.id;
    list.prepend(row(request));
  }
  for (const item of [...list.children]) {
    if (oldest === null || Number(item.dataset.id) < oldest) item.remove();
  }
  const count = list.children.length;
  status(count ? `${count} ${count === 1 ? "request" : "requests"}, shown as they come.` : "Waiting for the first request …");
  if (requests.length && asked === null) choose(wanted(list) ?? last);
}

// Return the number of the request that the page's URL names, if it is in the list.
function wanted(list) {
  const found = [...list.children].find((item) => location.hash === `#r${item.dataset.id}`);
  return found && Number(found.dataset.id);
}

function row(request) {
  const item = element("li");
  item.dataset.id = request.id;
  const button = element("button");
  button.type = "button";
  button.setAttribute("aria-pressed", "false");
  const time = element("time", clock.format(new Date(request.at)));
  time.dateTime = time.title = request.at;
  const verdict = element("span", VERDICTS[request.verdict], `verdict ${request.verdict}`);
  button.append(element("span", request.title, "title"), time, verdict, element("span", bytes(request.size), "soft"));
  button.addEventListener("click", async () => {
    await choose(request.id);
    if (!BESIDE.matches) byId("detail-title").focus(); // it is below the list, perhaps out of sight
  });
  item.append(button);
  return item;
}

// The chosen request

async function choose(id) {
  asked = id;
  let detail;
  try {
    detail = await fetchJson(`${url}${id}/`, { reasons: { 403: REFUSED, 404: "This request is no longer kept." } });
  } catch (error) {
    return status(error instanceof NoAccess ? reasonOf(error) : "The server does not answer. Choose the request again.");
  }
  if (asked !== id) return; // another one was chosen meanwhile
  chosen = detail;
  history.replaceState(null, "", `#r${id}`);
  for (const item of byId("list").children) {
    item.firstChild.setAttribute("aria-pressed", String(Number(item.dataset.id) === id));
  }
  byId("detail").hidden = false;
  byId("detail-title").textContent = chosen.title;
  const verdict = element("span", VERDICTS[chosen.verdict], `verdict ${chosen.verdict}`);
  byId("detail-verdict").replaceChildren(verdict, `: ${chosen.reason}.`);
  byId("detail-facts").replaceChildren(...facts(chosen));
  byId("detail-note").textContent = chosen.note;
  byId("detail-note").hidden = !chosen.note;
  byId("detail-headers").replaceChildren(...chosen.headers.map(headerRow));
  showBody(true);
}

function* facts(request) {
  const from = element("dd", request.address);
  if (request.endpoint) {
    const link = element("a", `endpoint ${request.endpoint.id}`);
    link.href = request.endpoint.url;
    from.append(", ", link);
  }
  const at = element("dd", new Date(request.at).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "medium" }));
  yield* [element("dt", "Received"), at, element("dt", "From"), from];
  yield* [element("dt", "Method"), element("dd", "POST")];
  if (request.path) yield* [element("dt", "Behind the URL"), element("dd", request.path)];
  yield* [element("dt", "Body"), element("dd", bytes(request.size))];
}

function headerRow([name, value]) {
  const row = element("tr");
  const head = element("th", name);
  head.scope = "row";
  row.append(head, element("td", value));
  return row;
}

function showBody(isFormatted) {
  const json = formattedJson(chosen.body);
  const shown = isFormatted && json !== null;
  byId("body").textContent = shown ? json : chosen.body;
  byId("formatted").disabled = json === null;
  byId("formatted").setAttribute("aria-pressed", String(shown));
  byId("raw").setAttribute("aria-pressed", String(!shown));
  let note = "";
  if (chosen.size === 0) note = "It is empty.";
  else if (!chosen.isUtf8) note = "Not all of it is UTF-8: � stands for what is not.";
  byId("body-note").textContent = note;
}

byId("formatted").addEventListener("click", () => showBody(true));
byId("raw").addEventListener("click", () => showBody(false));

// How long it lasts

function showExpiry() {
  const expires = byId("expires");
  const minutes = Math.max(0, Math.round((new Date(expires.dateTime) - Date.now()) / 60000));
  expires.textContent = minutes < 60 ? `in ${minutes} min` : `in ${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function element(name, text = "", className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function bytes(size) {
  return size < 1024 ? `${size} B` : `${(size / 1024).toFixed(1)} KiB`;
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && timer === null) look();
});
setUpCopyButtons();
showExpiry();
setInterval(showExpiry, 30000);
look();

// From an envelope to what a row of the list shows of it: time, chat and a short text.

const MAX_TEXT = 160;
/** Characters of an envelope that a row keeps; a longer one is fetched when somebody opens it. */
const MAX_BODY = 32_768;

/** One string for each value that repeats: 100,000 rows share the names of types, instances and chats. */
const shared = new Map();
function share(text) {
  const known = shared.get(text);
  if (known !== undefined) return known;
  if (shared.size > 20_000) shared.clear();
  shared.set(text, text);
  return text;
}

/** Returns a row of the list for an envelope. `now`: the server's time in milliseconds, undefined for an earlier event. */
export function rowOf(envelope, now) {
  const body = JSON.stringify(envelope);
  const at = Date.parse(envelope.date_time);
  return {
    key: 0,
    gap: null,
    instance: share(String(envelope.instance)),
    id: String(envelope.id ?? ""),
    seq: envelope.seq,
    type: share(String(envelope.event)),
    at,
    lag: now === undefined ? null : Math.max(0, now - at),
    chat: share(chatOf(envelope.data)),
    // computed when it is shown: a part of a longer text would keep all of that in memory
    text: body.length <= MAX_BODY ? null : copied(textOf(envelope.data)),
    body: body.length <= MAX_BODY ? body : null,
    states: null,
  };
}

/** Returns the short text of a row. */
export function textOfRow(row) {
  if (row.text !== null) return row.text;
  return row.body === null ? "" : textOf(JSON.parse(row.body).data);
}

/** Lets go of a row's envelope; its short text stays. */
export function empty(row) {
  row.text = copied(textOfRow(row));
  row.body = null;
}

/** Returns a text that shares no memory with a longer one. */
function copied(text) {
  return JSON.parse(JSON.stringify(text));
}

/** Returns a row for an event of which only instance, type, id and time are known. */
export function rowWithoutContent(event) {
  return {
    key: 0,
    gap: null,
    instance: share(event.instance),
    id: event.id,
    seq: event.seq,
    type: share(event.event),
    at: Date.parse(event.date_time),
    lag: null,
    chat: "",
    text: "",
    body: null,
    states: null,
  };
}

/** Returns a row that stands for the events of a gap behind a seq, which this page has missed. */
export function rowOfGap(whole, after, at) {
  const { instance, before } = whole;
  const most = before - after - 1;
  return {
    key: 0,
    gap: { after, before, whole },
    instance,
    id: "",
    seq: null,
    type: "missed",
    at,
    lag: null,
    chat: "",
    text: `${most === 1 ? "1 event was" : `Up to ${most} events were`} missed between ${after} and ${before}. Open this row to load them.`,
    body: null,
    states: null,
  };
}

function chatOf(data) {
  const first = Array.isArray(data) ? data[0] : data;
  if (typeof first === "string") return withoutServer(first);
  if (first === null || typeof first !== "object") return "";
  const chat = first.key?.remoteJid ?? first.remoteJid ?? first.chatId ?? first.groupJid;
  if (typeof chat === "string") return withoutServer(chat);
  return typeof first.id === "string" && first.id.includes("@") ? withoutServer(first.id) : "";
}

function withoutServer(address) {
  return address.endsWith("@s.whatsapp.net") ? address.slice(0, -15) : address.slice(0, 80);
}

function textOf(data) {
  if (Array.isArray(data)) {
    const first = data.length ? textOf(data[0]) : "";
    return data.length > 1 ? short(`${data.length} items: ${first}`) : first;
  }
  if (data === null || data === undefined) return "";
  if (typeof data !== "object") return short(String(data));
  if (data.message && typeof data.message === "object") {
    const sender = data.key?.fromMe ? "Me: " : data.pushName ? `${data.pushName}: ` : "";
    return short(sender + (textOfMessage(data.message) || String(data.messageType ?? "")));
  }
  if (data.presences && typeof data.presences === "object") {
    return short(Object.values(data.presences).map((each) => each?.lastKnownPresence).filter(Boolean).join(", "));
  }
  const parts = [];
  for (const name of ["state", "status", "keyId", "reason", "pushName", "name", "subject", "action", "instanceName", "field"]) {
    if (typeof data[name] === "string") parts.push(data[name]);
  }
  if (parts.length) return short(parts.join(" · "));
  const shown = Object.entries(data).slice(0, 8).filter(([name, value]) => typeof value !== "object" && !/jid|id$/i.test(name));
  return short(shown.map(([name, value]) => `${name}: ${value}`).join(", "));
}

function textOfMessage(message) {
  if (typeof message.conversation === "string") return message.conversation;
  for (const [kind, content] of Object.entries(message)) {
    if (content === null || typeof content !== "object") continue;
    const text = content.text ?? content.caption ?? content.title ?? content.displayName ?? content.name ?? content.contentText;
    if (typeof text === "string" && text) return text;
    if (kind.endsWith("Message")) return kind;
  }
  return "";
}

function short(text) {
  const flat = text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text;
  return flat.replace(/\s+/g, " ");
}

// The console's sockets: Socket.IO's stock client, a namespace for each instance or `/` for all, a token for each join.

import { csrfToken, fetchJson, NoAccess } from "../server.js";
import { Gaps } from "./gaps.js";
import { rowOf } from "./summary.js";

/** Milliseconds of work on events in one piece. */
const SLICE = 8;
/** The same while nobody looks, or so many wait that drawing has to. */
const LONG_SLICE = 50;
/** Items of the queue, four for each event: when a hidden page takes them, and when they are many. */
const HIDDEN = 400;
const CROWDED = 40_000;
/** Milliseconds from which on an event is late: the page is catching up. */
const LATE = 3000;
/** Joins that are tried again after a refusal, in this many milliseconds. */
const REJOINS = 3;
const REJOIN_DELAY = 1000;
/** Events of a gap that are loaded at a time, and up to a page more. */
const MAX_LOADED = 10_000;

export class Live {
  /**
   * `handlers`: rows(rows, filled) for new ones, and rows of gaps of which nothing is missing any more; earlier(rows) for those before them;
   * state(text, tone), note(text), ended(NoAccess, instance or null), lag(milliseconds), session(text).
   */
  constructor(config, handlers) {
    this.config = config;
    this.handlers = handlers;
    this.spaces = config.namespaces.map((each) => ({ ...each, offset: null, older: null, last: new Map(), rejoins: 0, ended: "" }));
    this.gaps = new Gaps();
    this.skew = 0;
    this.bestTrip = Infinity;
    this.queue = [];
    this.isScheduled = false;
    this.downSince = 0;
    this.isCatchingUp = false;
    this.manager = new io.Manager(location.origin, {
      transports: ["websocket", "polling"],
      tryAllTransports: true,
      reconnectionDelay: 500,
      reconnectionDelayMax: 3000,
      autoConnect: false,
    });
    document.addEventListener("visibilitychange", () => this.#flushSoon());
    const offline = () => {
      // each attempt would fail, and be an error in the browser's console; attempts that have begun are not stopped
      if (this.spaces.some((space) => space.socket?.connected)) this.manager.reconnection(false);
      this.#showState();
    };
    addEventListener("offline", offline, { capture: true }); // before the client's own handler, which would begin them
    addEventListener("online", () => {
      this.manager.reconnection(true);
      for (const space of this.spaces) if (!space.ended) space.socket?.connect();
      this.#showState();
    });
  }

  /** Loads earlier events, up to the offsets of an earlier visit where there are some, then joins from there. */
  async start(offsets, count) {
    const limit = Math.max(10, Math.ceil(count / this.spaces.length));
    const pages = await Promise.all(this.spaces.map((space) => this.#history(space, offsets[space.namespace], limit)));
    this.handlers.earlier(pages.flat().sort((one, other) => one.at - other.at));
    for (const space of this.spaces) if (!space.ended) this.#join(space);
    this.#showState();
  }

  /** Loads the events before the oldest that are shown. Returns their rows. */
  async loadOlder(count) {
    const spaces = this.spaces.filter((space) => space.older !== null && !space.ended);
    const limit = Math.max(10, Math.ceil(count / Math.max(1, spaces.length)));
    const pages = await Promise.all(spaces.map(async (space) => {
      const page = await fetchJson(`${space.data}events?before=${space.older}&limit=${limit}`);
      space.older = page.older;
      return page.events.map((envelope) => rowOf(envelope));
    }));
    return pages.flat().sort((one, other) => one.at - other.at);
  }

  get hasOlder() {
    return this.spaces.some((space) => space.older !== null);
  }

  /**
   * Loads events of a gap. Returns rows for those that have none yet; `rest`, the row of those that are still missing, or null; and
   * `found`, how many the server has.
   */
  async loadGap(row) {
    const { after, before, whole } = row.gap;
    const data = `${this.config.base}${encodeURIComponent(row.instance)}/`;
    const found = [];
    let position = after;
    let hasMore = true;
    while (hasMore && found.length < MAX_LOADED) {
      const page = await fetchJson(`${data}events?after=${position}&before=${before}&limit=${this.config.page}`);
      hasMore = page.hasMore;
      if (!page.events.length) break; // those that follow cannot be read now
      for (const envelope of page.events) if (epochOf(envelope) === whole.epoch) found.push(rowOf(envelope));
      position = page.events[page.events.length - 1].seq;
    }
    return { rows: whole.take(found), rest: hasMore ? whole.goOn(position) : null, found: found.length };
  }

  /** The position of each namespace behind the events that were taken. */
  get offsets() {
    return Object.fromEntries(this.spaces.filter((space) => space.offset).map((space) => [space.namespace, space.offset]));
  }

  /** Returns the socket for messages of an instance. */
  socketOf(instance) {
    return this.spaces.find((space) => space.instance === null || space.instance === instance)?.socket;
  }

  async #history(space, upto, limit) {
    const query = new URLSearchParams({ limit: String(limit), ...(upto ? { upto } : {}) });
    for (;;) {
      try {
        const page = await fetchJson(`${space.data}events?${query}`);
        space.offset = page.offset;
        space.older = page.older;
        for (const envelope of page.events) this.#remember(space, envelope);
        return page.events.map((envelope) => rowOf(envelope));
      } catch (error) {
        if (error instanceof NoAccess) {
          this.#end(space, error);
          return [];
        }
        this.handlers.state("The server does not answer; trying again", "warn");
        await new Promise((resolve) => setTimeout(resolve, 2000));
      }
    }
  }

  #join(space) {
    space.socket = this.manager.socket(space.namespace, { auth: (give) => this.#authorize(space, give) });
    space.socket.on("connect", () => this.#joined(space));
    space.socket.on("disconnect", (reason) => this.#left(space, reason));
    space.socket.on("connect_error", (error) => this.#refused(space, error));
    space.socket.onAny((type, envelope, offset) => this.#arrived(space, type, envelope, offset));
    space.socket.connect();
  }

  async #authorize(space, give) {
    try {
      const begun = Date.now();
      const answer = await fetchJson(`${space.data}token`, { method: "POST", headers: { "X-CSRFToken": csrfToken() } });
      if (!answer.token) throw new NoAccess(false, answer.reason);
      const trip = Date.now() - begun;
      if (trip < this.bestTrip) {
        this.bestTrip = trip;
        this.skew = Date.parse(answer.now) - (begun + trip / 2);
      }
      give({ token: answer.token, recover: true, since: space.offset });
    } catch (error) {
      if (error instanceof NoAccess) {
        this.#end(space, error);
        space.socket.disconnect();
      } else {
        this.manager.engine?.close(); // the client reconnects, and asks for another token
      }
    }
  }

  #joined(space) {
    const isResumed = space.socket.recovered;
    this.handlers.session(isResumed ? "resumed" : space.hasJoined ? "replayed" : "joined");
    space.hasJoined = true;
    if (this.downSince && this.spaces.every((each) => each.ended || each.socket?.connected)) {
      const seconds = Math.max(1, Math.round((Date.now() - this.downSince) / 1000));
      this.downSince = 0;
      this.handlers.note(`Back after ${seconds} s. ${isResumed ? "The session was resumed: nothing is missing." : "Events are sent from where this page left off."}`);
    }
    this.#showState();
  }

  #left(space, reason) {
    if (reason === "io client disconnect") return;
    this.downSince ||= Date.now();
    if (reason === "io server disconnect") this.#rejoin(space);
    this.#showState();
  }

  #refused(space, error) {
    if (space.socket.active) { // the transport failed, and the client tries again by itself
      this.downSince ||= Date.now();
      this.#showState();
    } else {
      this.#rejoin(space, error.message);
    }
  }

  /** Joins once more: if that is not allowed any more, the answer to the request for a token has the reason. */
  #rejoin(space, message = "") {
    if (space.ended) return;
    if (space.rejoins >= REJOINS) {
      this.#end(space, new NoAccess(false, message ? `The server refuses the connection: ${message}.` : "The server has closed the connection."));
      return;
    }
    space.rejoins += 1;
    setTimeout(() => space.socket.connect(), REJOIN_DELAY * (space.rejoins - 1));
    setTimeout(() => { space.rejoins = Math.max(0, space.rejoins - 1); }, 60_000);
  }

  #end(space, error) {
    space.ended = error.message;
    this.handlers.ended(error, space.instance);
    this.#showState();
  }

  #showState() {
    const { state } = this.handlers;
    const open = this.spaces.filter((space) => !space.ended);
    const joined = open.filter((space) => space.socket?.connected);
    if (!open.length) state("Ended", "bad");
    else if (!navigator.onLine) state("Offline", "bad");
    else if (joined.length < open.length) state(this.downSince ? "Reconnecting" : "Connecting", "warn");
    else if (this.isCatchingUp) state("Catching up", "warn");
    else state(open.length < this.spaces.length ? `Live: ${open.length} of ${this.spaces.length}` : "Live", "good");
  }

  // Events

  #arrived(space, type, envelope, offset) {
    if (type === "error" && envelope?.seq === undefined) {
      this.handlers.note([envelope?.response?.message ?? "The server reports an error"].flat(2).join("; "));
      return;
    }
    this.queue.push(space, envelope, offset, Date.now());
    // timers of a hidden page run once a minute: then the events themselves have them taken
    if (document.hidden && this.queue.length >= HIDDEN) this.#flush();
    else this.#flushSoon();
  }

  #flushSoon() {
    if (this.isScheduled && !document.hidden) return;
    this.isScheduled = true;
    if (document.hidden) setTimeout(() => this.#flush(), 200); // no frame is drawn, so none is waited for
    else requestAnimationFrame(() => this.#flush());
  }

  #flush() {
    this.isScheduled = false;
    if (!this.queue.length) return;
    const end = performance.now() + (document.hidden || this.queue.length > CROWDED ? LONG_SLICE : SLICE);
    const rows = [];
    const filled = [];
    let index = 0;
    while (index < this.queue.length && performance.now() < end) {
      this.#take(rows, filled, ...this.queue.slice(index, index + 4));
      index += 4;
    }
    this.queue = index < this.queue.length ? this.queue.slice(index) : [];
    if (this.queue.length) this.#flushSoon();
    if (!rows.length) return;
    const lag = rows[rows.length - 1].lag ?? 0;
    if (lag < LATE !== !this.isCatchingUp) {
      this.isCatchingUp = lag >= LATE;
      this.#showState();
    }
    if (!this.isCatchingUp) this.handlers.lag(lag);
    this.handlers.rows(rows, filled);
  }

  /** Adds rows for an event, and for those that are missing before it; none if it has one. */
  #take(rows, filled, space, envelope, offset, at) {
    if (typeof offset === "string") space.offset = offset;
    const { instance, seq, prev } = envelope;
    const epoch = epochOf(envelope);
    const last = space.last.get(instance);
    if (last?.epoch === epoch && seq <= last.seq) {
      // an event that the server could not read in time comes after later ones
      const gap = this.gaps.takeLate(instance, epoch, seq);
      if (!gap) return;
      if (gap.isFull) filled.push(gap.row);
    } else {
      this.#remember(space, envelope);
      if (last?.epoch === epoch && prev > last.seq) {
        rows.push(this.gaps.add(instance, epoch, last.seq, prev + 1, Date.parse(envelope.date_time)));
      }
    }
    rows.push(rowOf(envelope, at + this.skew));
  }

  #remember(space, envelope) {
    space.last.set(envelope.instance, { epoch: epochOf(envelope), seq: envelope.seq });
  }
}

function epochOf(envelope) {
  return String(envelope.id).split(".")[0];
}

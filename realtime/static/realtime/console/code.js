// The subscription of this page as code: the same instance and types, with a key of the reader's own.

import { copy } from "../copy.js";

export function codePanel(config, filters) {
  const tabs = document.getElementById("code-tabs");
  const text = document.getElementById("code-text");
  const note = document.getElementById("code-note");
  const button = document.getElementById("code-copy");
  let chosen = "JavaScript";
  const show = () => {
    const snippet = SNIPPETS[chosen](subscription(config, filters.types));
    text.textContent = snippet.text;
    note.textContent = snippet.note;
    for (const tab of tabs.children) {
      tab.setAttribute("aria-selected", String(tab.textContent === chosen));
      tab.tabIndex = tab.textContent === chosen ? 0 : -1;
    }
  };
  for (const language of Object.keys(SNIPPETS)) {
    const tab = document.createElement("button");
    tab.type = "button";
    tab.textContent = language;
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", "code-panel");
    tab.addEventListener("click", () => { chosen = language; show(); });
    tabs.append(tab);
  }
  tabs.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const all = [...tabs.children];
    const next = all[(all.findIndex((tab) => tab.textContent === chosen) + step + all.length) % all.length];
    next.click();
    next.focus();
  });
  button.addEventListener("click", () => copy(text.textContent, button));
  show();
  return show;
}

function subscription(config, types) {
  const origin = config.server || location.origin;
  const instance = config.instance;
  const names = types.map((type) => type.toUpperCase().replace(/[.-]/g, "_"));
  return { origin, instance, namespace: instance === null ? "/" : `/${instance}`, names };
}

const quoted = JSON.stringify;
/** A text as one word of a shell. */
const word = (text) => `'${text.replaceAll("'", "'\\''")}'`;

const SNIPPETS = {
  JavaScript: ({ origin, namespace, names }) => ({
    note: "npm install socket.io-client",
    text: `import { Manager } from "socket.io-client";

const manager = new Manager(${quoted(origin)}, { transports: ["websocket"] });
const socket = manager.socket(${quoted(namespace)}, {
  auth: { apikey: process.env.APIKEY, recover: true${names.length ? `, events: ${quoted(names)}` : ""} },
});
socket.on("connect", () => console.error(socket.recovered ? "nothing was missed" : "connected"));
socket.on("connect_error", (error) => console.error(error.message));
socket.onAny((type, event) => console.log(JSON.stringify(event)));
`,
  }),
  Python: ({ origin, namespace, names }) => ({
    note: "pip install 'python-socketio[client]'",
    text: `import json
import os

import socketio

NAMESPACE = ${quoted(namespace)}
client = socketio.Client()
position = None


def options():
    """Join from the last event that was received: what came meanwhile is sent first."""
    return {"apikey": os.environ["APIKEY"], "recover": True, "since": position${names.length ? `, "events": ${quoted(names).replaceAll(",", ", ")}` : ""}}


@client.on("*", namespace=NAMESPACE)
def received(event_type, event, offset):
    global position
    position = offset
    print(json.dumps(event), flush=True)


client.connect(${quoted(origin)}, namespaces=[NAMESPACE], auth=options, transports=["websocket"])
client.wait()
`,
  }),
  n8n: ({ origin, instance, names }) => ({
    note: "Paste it into a workflow, activate it, then register its URL as the note in it says.",
    text: JSON.stringify(
      {
        nodes: [
          {
            parameters: { httpMethod: "POST", path: `evoapi-${slug(instance ?? "all")}`, responseMode: "onReceived", options: {} },
            id: "5b0f2b0e-6a35-4b7a-9a0e-7d1f0c1f0001",
            name: "Events",
            type: "n8n-nodes-base.webhook",
            typeVersion: 2,
            position: [0, 0],
            webhookId: "5b0f2b0e-6a35-4b7a-9a0e-7d1f0c1f0002",
          },
          {
            parameters: {
              width: 560,
              height: 220,
              content: `Register this webhook once:\n\n${registration(origin, instance, names)}`,
            },
            id: "5b0f2b0e-6a35-4b7a-9a0e-7d1f0c1f0003",
            name: "How to register",
            type: "n8n-nodes-base.stickyNote",
            typeVersion: 1,
            position: [260, -40],
          },
        ],
        connections: {},
      },
      null,
      2,
    ),
  }),
  curl: ({ origin, instance, names }) => ({
    note: instance === null ? "An event stream carries one instance: put its name in." : "Server-sent events; Last-Event-ID resumes.",
    text: `curl -N -H "apikey: $APIKEY" \\
  ${word(`${origin}/event/stream/${instance === null ? "INSTANCE" : encodeURIComponent(instance)}${names.length ? `?events=${names.join(",")}` : ""}`)}
`,
  }),
};

function registration(origin, instance, names) {
  const name = instance === null ? "INSTANCE" : encodeURIComponent(instance);
  const body = JSON.stringify({ url: "THE PRODUCTION URL OF THIS NODE", ...(names.length ? { events: names } : {}) });
  return `curl -X POST ${word(`${origin}/webhook/endpoints/${name}`)} -H "apikey: $APIKEY" -H 'Content-Type: application/json' -d ${word(body)}`;
}

function slug(name) {
  return name.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "") || "events";
}

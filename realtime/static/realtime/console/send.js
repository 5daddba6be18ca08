// The box that sends a text message through this page's socket, and says in words what became of it.

import { fetchJson } from "../server.js";

const TIMEOUT = 30_000;

export function sendBox(config, live) {
  const form = document.getElementById("send");
  if (!form) return;
  const field = (name) => document.getElementById(`send-${name}`);
  const result = field("result");
  const say = (text, tone) => {
    result.textContent = text;
    result.className = tone;
  };
  let id = "";
  form.addEventListener("input", () => { id = ""; }); // another message
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const instance = config.instance ?? field("instance").value.trim();
    const socket = live.socketOf(instance);
    if (!socket?.connected) {
      say("Nothing was sent: the page is not connected to this instance.", "bad");
      return;
    }
    id ||= `console-${[...crypto.getRandomValues(new Uint32Array(3))].map((each) => each.toString(36)).join("")}`;
    const message = { id, number: field("number").value.trim(), text: field("text").value };
    if (socket.nsp === "/") message.instance = instance;
    say("Sending", "soft");
    try {
      const answer = await socket.timeout(TIMEOUT).emitWithAck("send_message", message);
      if (answer?.error || answer?.status >= 400) {
        say(`Nothing was sent: ${reasons(answer)}`, answer?.response?.outcome === "unknown" ? "warn" : "bad");
        if (answer?.response?.outcome === "unknown") result.textContent = reasons(answer);
        return;
      }
      say(outcome(answer, config.integration ?? (await integrationOf(config, instance))), "good");
      id = "";
      field("text").value = "";
    } catch {
      say("The server has not answered in 30 seconds. It is not known whether the message was sent: send it again, and it is sent at most once.", "warn");
    }
  });
}

/** Returns the integration of an instance of many; undefined if that cannot be known now. */
async function integrationOf(config, instance) {
  const query = new URLSearchParams({ q: instance });
  const { instances } = await fetchJson(`${config.base}all/instances/names?${query}`).catch(() => ({ instances: [] }));
  return instances.find(({ name }) => name === instance)?.integration;
}

function reasons(answer) {
  return [answer?.response?.message ?? answer?.error ?? "no reason was given"].flat(3).join("; ");
}

function outcome(message, integration) {
  const id = message?.key?.id ? ` Its id is ${message.key.id}.` : "";
  if (integration === "WHATSAPP-BUSINESS") return `WhatsApp has accepted the message (${message.status ?? "PENDING"}); its states follow as messages.update.${id}`;
  if (integration === "EVOLUTION") return `send.message is emitted: the engine of this instance sends the message.${id}`;
  return `The message is stored as ${message?.status ?? "PENDING"}.${id}`;
}

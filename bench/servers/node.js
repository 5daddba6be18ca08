// Node's socket.io as npm has it, in its default configuration; only the websocket transport, and keys that are checked.
"use strict";
const { readFileSync } = require("node:fs");
const { createServer } = require("node:http");
const { createInterface } = require("node:readline");
const { Server } = require("socket.io");

const { keys, instances } = JSON.parse(readFileSync(process.argv[2]));
const MESSAGE = JSON.parse(readFileSync(`${__dirname}/message.json`));
const EPOCH = "9c2347a1eeccb389";

const http = createServer();
const io = new Server(http, { transports: ["websocket"] });
const known = new Map(Object.entries(keys));
const seqs = new Map();
const namespaces = instances.map((name) => {
  seqs.set(name, 0);
  return io.of(`/${name}`).use((socket, next) => {
    const opened = known.get(socket.handshake.auth.apikey); // "*" or the name of an instance
    next(opened === "*" || opened === name ? undefined : new Error("Unauthorized"));
  });
});

function envelope(name, ts) {
  const seq = seqs.get(name) + 1;
  seqs.set(name, seq);
  return {
    event: "messages.upsert",
    instance: name,
    data: { ...MESSAGE, message: { conversation: `ts=${ts} ${MESSAGE.message.conversation}` } },
    date_time: new Date().toISOString(),
    apikey: null,
    id: `${EPOCH}.${seq}`,
    seq,
    prev: seq - 1,
  };
}

function emit(place, ts = process.hrtime.bigint()) {
  namespaces[place].emit("messages.upsert", envelope(instances[place], ts));
}

const turnOfTheLoop = () => new Promise(setImmediate);

async function feed(events, perTurn, places) {
  for (let i = 0; i < events; ) {
    for (let k = 0; k < perTurn; k++, i++) emit(i % places);
    await turnOfTheLoop();
  }
  return { emitted: events };
}

function usage() {
  const { user, system } = process.cpuUsage();
  return { cpu: (user + system) / 1e6, rss: process.memoryUsage().rss };
}

const commands = {
  event: (ts) => emit(0, ts),
  feed: (events, perTurn) => feed(+events, +perTurn, 1),
  round: (events, perTurn) => feed(+events, +perTurn, instances.length),
  usage,
};

http.listen(0, "127.0.0.1", () => {
  console.log(JSON.stringify({ port: http.address().port }));
  const lines = createInterface({ input: process.stdin });
  lines.on("line", async (line) => {
    const [name, ...given] = line.split(" ");
    const answer = await commands[name](...given);
    if (answer) console.log(JSON.stringify(answer));
  });
  lines.on("close", () => process.exit());
});

// The stock socket.io-client, told by lines of JSON on standard input what to do; it prints lines of JSON.
const readline = require("node:readline");
const { io } = require("socket.io-client");

const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const sockets = {};

const commands = {
  // {name, url, options}: connect, and report everything that happens; `over` another socket's connection, `url` is
  // a namespace
  connect({ name, url, options, over }) {
    const socket = over ? sockets[over].io.socket(url, options) : io(url, { forceNew: true, ...options });
    sockets[name] = socket;
    const transport = () => socket.io.engine && socket.io.engine.transport.name;
    socket.on("connect", () => say({ name, is: "connect", sid: socket.id, recovered: socket.recovered, transport: transport() }));
    socket.on("connect_error", (error) => say({ name, is: "connect_error", message: error.message, data: error.data, active: socket.active }));
    socket.on("disconnect", (reason) => say({ name, is: "disconnect", reason, active: socket.active }));
    socket.onAny((event, ...args) => say({ name, is: "event", event, args }));
    socket.io.engine.on("upgrade", (to) => say({ name, is: "upgrade", transport: to.name }));
  },
  // {name, event, args, ack}: emit; with `ack` an id that comes back with the answer
  emit({ name, event, args, ack }) {
    const parameters = [...args];
    if (ack !== undefined) parameters.push((...answer) => say({ name, is: "ack", ack, args: answer }));
    sockets[name].emit(event, ...parameters);
  },
  // {name, event, calls}: emit each [ack, argument] at once
  emitAll({ name, event, calls }) {
    for (const [ack, argument] of calls) commands.emit({ name, event, args: [argument], ack });
  },
  // {name, packet}: send an Engine.IO message as it stands, which no honest client would
  raw({ name, packet }) {
    sockets[name].io.engine.write(packet);
  },
  // {name}: lose the transport, as a bad network does; the client comes back by itself
  drop({ name }) {
    sockets[name].io.engine.close();
  },
  disconnect({ name }) {
    sockets[name].disconnect();
  },
};

const input = readline.createInterface({ input: process.stdin });
input.on("line", (line) => {
  const { command, ...parameters } = JSON.parse(line);
  commands[command](parameters);
});
input.on("close", () => process.exit(0));
say({ is: "ready" });

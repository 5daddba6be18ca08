// The stock socket.io-client, controlled by lines of JSON on standard input; it reports in lines of JSON on its output.
const http = require("node:http");
const readline = require("node:readline");
const { io } = require("socket.io-client");

const report = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const sockets = {};

const commands = {
  // {name, url, options, over}: connect, and report everything; with `over` it shares that socket's connection, and
  // `url` is a namespace
  connect({ name, url, options, over }) {
    // the client has no option for a polling's own address
    if (options.localAddress) options.agent = new http.Agent({ localAddress: options.localAddress });
    const socket = over ? sockets[over].io.socket(url, options) : io(url, { forceNew: true, ...options });
    sockets[name] = socket;
    const transport = () => socket.io.engine && socket.io.engine.transport.name;
    socket.on("connect", () => report({ name, is: "connect", sid: socket.id, recovered: socket.recovered, transport: transport(), session: socket.io.engine.id }));
    socket.on("connect_error", (error) => report({ name, is: "connect_error", message: error.message, data: error.data, active: socket.active }));
    socket.on("disconnect", (reason) => report({ name, is: "disconnect", reason, active: socket.active }));
    socket.onAny((event, ...args) => report({ name, is: "event", event, args }));
    socket.io.engine.on("upgrade", (to) => report({ name, is: "upgrade", transport: to.name }));
  },
  // {name, event, args, ack}: emit; with the id `ack` the acknowledgement is reported
  emit({ name, event, args, ack }) {
    const parameters = [...args];
    if (ack !== undefined) parameters.push((...args) => report({ name, is: "ack", ack, args }));
    sockets[name].emit(event, ...parameters);
  },
  // {name, event, calls}: emit each [ack, argument] at once
  emitAll({ name, event, calls }) {
    for (const [ack, argument] of calls) commands.emit({ name, event, args: [argument], ack });
  },
  // {name, packet}: send an Engine.IO message unchecked
  raw({ name, packet }) {
    sockets[name].io.engine.write(packet);
  },
  // {name}: close the transport, as a bad network does; the client reconnects by itself
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
report({ is: "ready" });

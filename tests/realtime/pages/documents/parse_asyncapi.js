// Parses an AsyncAPI document from stdin, and prints what the parser has to say of it as JSON.
const { Parser } = require("@asyncapi/parser");

let text = "";
process.stdin.setEncoding("utf8");
process.stdin.on("data", (part) => { text += part; });
process.stdin.on("end", async () => {
  const { document, diagnostics } = await new Parser().parse(text);
  console.log(JSON.stringify({
    version: document?.version(),
    messages: document?.allMessages().length,
    found: diagnostics.map(({ severity, code, message, path }) => ({ severity, code, message, path: path.join(".") })),
  }));
});

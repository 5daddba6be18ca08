// JSON with line breaks, made of the text itself: parsing and serializing it again would change long numbers.

const MAX_DEPTH = 40; // the indentation of deeper JSON would be longer than the JSON
const MAX_LENGTH = 2_000_000;

// Return the text with line breaks and indentation, or null if it is no JSON, too deep or too long.
export function formattedJson(text) {
  try {
    JSON.parse(text);
  } catch {
    return null;
  }
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|[^\s{}[\],:"]+|[{}[\],:]/g) ?? [];
  let depth = 0;
  let length = 0;
  const lines = [];
  const add = (piece) => {
    lines.push(piece);
    length += piece.length;
  };
  const breakLine = () => add(`\n${"  ".repeat(depth)}`);
  for (const [index, token] of tokens.entries()) {
    const next = tokens[index + 1];
    if (token === "{" || token === "[") {
      depth += 1;
      if (depth > MAX_DEPTH) return null;
      add(token);
      if (next !== "}" && next !== "]") breakLine();
    } else if (token === "}" || token === "]") {
      depth -= 1;
      const previous = tokens[index - 1];
      if (previous !== "{" && previous !== "[") breakLine();
      add(token);
    } else if (token === ",") {
      add(token);
      breakLine();
    } else {
      add(token === ":" ? ": " : token);
    }
    if (length > MAX_LENGTH) return null;
  }
  return lines.join("");
}

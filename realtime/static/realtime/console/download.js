// The events that are shown, as a file of JSON lines.

/** Rows that are put together in one piece. */
const PIECE = 2000;

export async function download(rows, name, note) {
  const shown = rows.filter((row) => !row.gap);
  const pieces = [];
  let incomplete = 0;
  for (let from = 0; from < shown.length; from += PIECE) {
    const lines = shown.slice(from, from + PIECE).map((row) => {
      if (row.body !== null) return row.body;
      incomplete += 1;
      return JSON.stringify({ event: row.type, instance: row.instance, id: row.id, seq: row.seq, date_time: new Date(row.at).toISOString() });
    });
    pieces.push(new Blob([lines.join("\n"), "\n"]));
    await new Promise((resolve) => setTimeout(resolve));
  }
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(pieces, { type: "application/jsonl" }));
  link.download = `events-${name.replace(/[^\w.-]+/g, "-")}-${new Date().toISOString().slice(0, 19).replace(/:/g, "")}.jsonl`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  const left = incomplete ? ` ${incomplete} of them are too large for this page: their lines have no data.` : "";
  note(`Downloaded ${shown.length} events.${left}`);
}

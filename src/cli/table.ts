/** Columns for people: left-aligned, two spaces apart, no trailing blanks. */
export function renderTable(rows: readonly (readonly string[])[], indent = ""): string {
  const widths: number[] = [];
  for (const row of rows) for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length);
  return rows
    .map((row) => `${indent}${row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join("  ")}`.trimEnd())
    .join("\n");
}

/** "12.3 MB": decimal units, as transfer volumes are told. */
export function formatBytes(count: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = count;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

/** "12.3 ms": round trips, of which a tenth of a millisecond may matter. */
export const formatRoundTrip = (milliseconds: number): string =>
  milliseconds < 0.1 ? "< 0.1 ms" : `${milliseconds.toFixed(1)} ms`;

/** What a terminal shows in one line, unless its owner made it wider. */
export const SCREEN_COLUMNS = 80;

/** A text in lines of at most `width` where its words allow it, all but the first indented. */
export function fold(text: string, width: number, indent = ""): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line.trim() !== "" && line.length + 1 + word.length > width) {
      lines.push(line);
      line = indent + word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  return [...lines, line];
}

/** A table whose last column goes on in further lines where the screen ends. */
export function renderFolded(rows: readonly (readonly string[])[]): string {
  const before = rows.map((row) => row.slice(0, -1));
  const taken = renderTable(before).split("\n");
  const room = SCREEN_COLUMNS - 2 - Math.max(0, ...taken.map((line) => line.length));
  const folded = rows.flatMap((row, at) =>
    fold(row.at(-1) ?? "", room).map((line, i) => [...(before[at] ?? []).map((cell) => (i === 0 ? cell : "")), line]),
  );
  return renderTable(folded);
}

/** The room that the first column of a screen of findings takes: "captive portal" and two blanks. */
const LABEL_COLUMNS = 16;

/** Rows of two columns, the label beside the first line of text only. */
export const labelled = (label: string, texts: readonly string[]): string[][] =>
  texts.flatMap((text) => fold(text, SCREEN_COLUMNS - LABEL_COLUMNS)).map((line, i) => [i === 0 ? label : "", line]);

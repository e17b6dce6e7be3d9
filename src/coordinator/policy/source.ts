import { type Document, isNode, LineCounter, parseDocument, visit } from "yaml";

/** A place in a policy: keys and indexes. */
export type Path = readonly (string | number)[];

/** A policy's text as a value, and the lines its parts are on. */
export type Source = {
  readonly value: unknown;
  readonly errors: readonly { readonly line: number; readonly message: string }[];
  /** Of the value at the path, or of the nearest one around it. */
  lineOf(path: Path): number;
};

/** Brackets in brackets, columns of indentation, and indicators in a row: each deeper level costs the parser stack. */
const DEPTH_MAX = 64;

/**
 * YAML, or JSON with comments and trailing commas. The latter is YAML in flow style once its comments are blanks, and
 * so one parser knows the lines of both.
 */
export function readSource(text: string): Source {
  const deep = deepLine(text);
  if (deep !== undefined) return refused([{ line: deep, message: "this is nested deeper than any policy needs" }]);
  const lines = new LineCounter();
  const isJson = /^\s*(?:\/\/|\/\*|\{)/.test(text);
  const document = parseDocument(isJson ? blankComments(text) : text, { lineCounter: lines, uniqueKeys: true });
  const line = (at: number): number => lines.linePos(at).line;
  const errors = document.errors.map(({ pos, code, message }) => ({
    line: line(pos[0]),
    message: code === "BAD_ALIAS" ? STAR : (message.split("\n")[0] ?? "").replace(/ at line \d+.*$/, ""),
  }));
  // Aliases are refused whole: a few lines of them can stand for gigabytes.
  visit(document, { Alias: (_, { range }) => void errors.push({ line: line(range?.[0] ?? 0), message: STAR }) });
  if (errors.length > 0) return refused(errors);
  const value = document.contents === null ? {} : document.toJS();
  return { value, errors, lineOf: (path) => lineOf(document, lines, path) };
}

const STAR = 'a star is written in quotes: "*"';
const refused = (errors: Source["errors"]): Source => ({ value: undefined, errors, lineOf: () => 1 });

/** The first line at which the text is nested too deep, by a count that may only be too high. */
function deepLine(text: string): number | undefined {
  let depth = 0;
  for (const [at, line] of text.split("\n").entries()) {
    for (const [character] of line.matchAll(/[[\]{}]/g)) {
      depth = "[{".includes(character) ? depth + 1 : Math.max(0, depth - 1);
      if (depth > DEPTH_MAX) return at + 1;
    }
    if (/(?:[-?:][ \t]+){8}/.test(line) || /^[ \t]{65}[^ \t#]/.test(line)) return at + 1;
  }
  return undefined;
}

function lineOf(document: Document, lines: LineCounter, path: Path): number {
  for (let length = path.length; length > 0; length--) {
    const node = document.getIn(path.slice(0, length), true);
    if (isNode(node) && node.range) return lines.linePos(node.range[0]).line;
  }
  return 1;
}

/** Comments and tabs become blanks: every character stays where it was. */
function blankComments(text: string): string {
  return text.replace(/"(?:[^"\\\n]|\\.)*"|\/\/[^\n]*|\/\*[\s\S]*?\*\/|\t/g, (part) =>
    part.startsWith('"') ? part : part.replace(/[^\n]/g, " "),
  );
}

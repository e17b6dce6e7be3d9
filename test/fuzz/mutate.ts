/** Inputs for fuzzing: nonsense, and valid examples with a few things wrong. All chance comes from the caller. */

export type Chance = () => number;

const upTo = (chance: Chance, limit: number): number => Math.floor(chance() * limit);
const oneOf = <T>(chance: Chance, all: readonly T[], otherwise: T): T => all[upTo(chance, all.length)] ?? otherwise;

/** One input in five is nonsense; the others are an example with up to four places changed. */
const NONSENSE = 0.2;
const CHANGES_MAX = 4;
const NONSENSE_BYTES_MAX = 300;

export function mutateBytes(examples: readonly Uint8Array[], chance: Chance): Uint8Array {
  if (chance() < NONSENSE)
    return Uint8Array.from({ length: upTo(chance, NONSENSE_BYTES_MAX) }, () => upTo(chance, 256));
  let bytes = oneOf(chance, examples, new Uint8Array());
  for (let i = upTo(chance, CHANGES_MAX); i >= 0; i--) bytes = changeBytes(bytes, examples, chance);
  return bytes;
}

function changeBytes(bytes: Uint8Array, examples: readonly Uint8Array[], chance: Chance): Uint8Array {
  const at = upTo(chance, bytes.length);
  switch (upTo(chance, 6)) {
    case 0:
      return bytes.slice(0, at);
    case 1:
      return Uint8Array.of(...bytes.subarray(0, at), upTo(chance, 256), ...bytes.subarray(at));
    case 2:
      return Uint8Array.of(...bytes.subarray(0, at), ...bytes.subarray(at + 1 + upTo(chance, 8)));
    case 3:
      return Uint8Array.of(...bytes.subarray(0, at), ...oneOf(chance, examples, bytes).subarray(at));
    case 4:
      return bytes.map((byte, i) => (i === at ? oneOf(chance, [0, 0x7f, 0x80, 0xff], 0) : byte));
    default:
      return bytes.map((byte, i) => (i === at ? byte ^ (1 << upTo(chance, 8)) : byte));
  }
}

/** What parsers trip over: their own punctuation, ends of ranges, odd white space, YAML's anchors, aliases and tags. */
const TOKENS = [
  ..."\0 \t \n \r : , - . / # % ! * & ? | > \" ' ` { } [ ] ( ) < > = + ~ @ \\ \u2028 \ufeff é 😀 \ud800".split(" "),
  ...["\n\n", "\r\n", "  ", ": ", "- ", "---\n", "...\n", "%YAML 9.9\n", "null", "true", "-1", "0", "1e999", "NaN"],
  ...["4294967296", "99999999999999999999", "0x10", "__proto__", "constructor", "<<: ", "*a", "&a ", "? ", "!!binary "],
  ...["!!map ", "!!set ", "::", "fe80::1%eth0", "256.0.0.1", "/33", "/129", "*", " * ", "\u0000".repeat(8)],
];

export function mutateText(examples: readonly string[], chance: Chance): string {
  if (chance() < NONSENSE) return nonsense(chance);
  let text = oneOf(chance, examples, "");
  for (let i = upTo(chance, CHANGES_MAX); i >= 0; i--) text = changeText(text, examples, chance);
  return text;
}

function nonsense(chance: Chance): string {
  const parts = Array.from({ length: upTo(chance, 40) }, () =>
    chance() < 0.5 ? oneOf(chance, TOKENS, "") : String.fromCharCode(32 + upTo(chance, 96)),
  );
  return parts.join("");
}

function changeText(text: string, examples: readonly string[], chance: Chance): string {
  const at = upTo(chance, text.length + 1);
  const to = Math.min(text.length, at + 1 + upTo(chance, 8));
  switch (upTo(chance, 7)) {
    case 0:
      return text.slice(0, at);
    case 1:
      return text.slice(0, at) + oneOf(chance, TOKENS, "") + text.slice(at);
    case 2:
      return text.slice(0, at) + text.slice(to);
    case 3:
      return text.slice(0, at) + oneOf(chance, examples, "").slice(at);
    case 4:
      return text.slice(0, to) + text.slice(at);
    case 5:
      return text.slice(0, at) + oneOf(chance, TOKENS, "") + text.slice(to);
    default: {
      const lines = text.split("\n");
      const [line = ""] = lines.splice(upTo(chance, lines.length), 1);
      lines.splice(upTo(chance, lines.length + 1), 0, line);
      return lines.join("\n");
    }
  }
}

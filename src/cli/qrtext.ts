import { encode } from "uqr";

/** ISO/IEC 18004 §9.1: so many light modules around the code, or cameras do not find it. */
const QUIET_MODULES = 4;
/** Black and white by number: the terminal's own colours may be anything. */
const PAINT = "\u001b[38;5;16;48;5;231m";
const PLAIN = "\u001b[0m";

/**
 * The text as a QR code, two modules a character, one above the other. `painted`: for a terminal, black on white
 * whatever its colours are; else the blocks are the light modules, as what is printed is mostly bright on dark.
 */
export function qrText(text: string, painted: boolean): string {
  const { data } = encode(text, { ecc: "L", border: QUIET_MODULES });
  const lines: string[] = [];
  for (let y = 0; y < data.length; y += 2) {
    const line = (data[y] ?? []).map((upper, x) => {
      // Below the last row of an odd number of rows is nothing but light.
      const lower = data[y + 1]?.[x] ?? false;
      return painted ? block(upper, lower) : block(!upper, !lower);
    });
    lines.push(painted ? `${PAINT}${line.join("")}${PLAIN}` : line.join(""));
  }
  return lines.join("\n");
}

function block(upper: boolean, lower: boolean): string {
  if (upper) return lower ? "█" : "▀";
  return lower ? "▄" : " ";
}

import assert from "node:assert/strict";
import { fromHex } from "../../src/kit/bytes.js";

/** Bytes as a test writes them: hex, with spaces where they help. */
export function hex(text: string): Uint8Array {
  const bytes = fromHex(text.replaceAll(/\s/g, ""));
  assert(bytes !== undefined, `not hex: ${text}`);
  return bytes;
}

import { randomBytes } from "node:crypto";

/** Cryptographically strong random bytes; pure cores get this function, or a seeded one in tests. */
export type Random = (length: number) => Uint8Array;

export const systemRandom: Random = (length) => new Uint8Array(randomBytes(length));

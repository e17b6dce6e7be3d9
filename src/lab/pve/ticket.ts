import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { HOUR, MINUTE, type Millis } from "../../kit/time.js";
import { writeWhole } from "./statefile.js";

/** How long a login lasts; a little before it ends it is renewed by logging in with the ticket as password. */
const TICKET_LIFE_MS: Millis = 2 * HOUR;
/** Clocks of client and server may disagree by this much. */
const SKEW_MS: Millis = 5 * MINUTE;

/** Login tickets `PVE:user@realm:HEXTIME::signature` and CSRF tokens `HEXTIME:digest`, signed by a key on disk. */
export class Tickets {
  readonly #key: Buffer;

  constructor(stateDir: string) {
    const path = join(stateDir, "ticket.key");
    this.#key = readKey(path);
  }

  issue(user: string, now: Millis): { ticket: string; csrf: string } {
    const time = hexSeconds(now);
    const plain = `PVE:${user}:${time}`;
    return { ticket: `${plain}::${this.#sign(plain)}`, csrf: `${time}:${this.#sign(`csrf:${time}:${user}`)}` };
  }

  /** The user of a valid ticket. */
  userOf(ticket: string, now: Millis): string | undefined {
    const match = /^(PVE:([^:\s]+):([0-9A-F]{8}))::(\S+)$/.exec(ticket);
    if (match === null) return undefined;
    const [, plain = "", user, time = "", signature = ""] = match;
    return fresh(time, now) && same(this.#sign(plain), signature) ? user : undefined;
  }

  csrfMatches(user: string, csrf: string, now: Millis): boolean {
    const [time = "", signature = ""] = csrf.split(":");
    return fresh(time, now) && same(this.#sign(`csrf:${time}:${user}`), signature);
  }

  #sign(text: string): string {
    return createHmac("sha256", this.#key).update(text).digest("base64").replace(/=+$/, "");
  }
}

function readKey(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
    const key = randomBytes(32);
    writeWhole(path, key, 0o600);
    return key;
  }
}

const hexSeconds = (now: Millis): string =>
  Math.floor(now / 1_000)
    .toString(16)
    .toUpperCase()
    .padStart(8, "0");

function fresh(hex: string, now: Millis): boolean {
  const age = now - Number.parseInt(hex, 16) * 1_000;
  return age > -SKEW_MS && age < TICKET_LIFE_MS;
}

function same(left: string, right: string): boolean {
  const a = Buffer.from(left);
  const b = Buffer.from(right);
  return a.length === b.length && timingSafeEqual(a, b);
}

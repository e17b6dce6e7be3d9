import * as z from "zod";
import { concat, fromBase64Url, fromUtf8, toBase64Url, toHex, utf8 } from "../../kit/bytes.js";
import { BOX_NONCE_BYTES, boxOpen, boxSeal, hmac } from "../../kit/crypto.js";
import { tryJson } from "../../kit/json.js";
import { MINUTE, type Millis } from "../../kit/time.js";
import type { Random } from "../../sys/random.js";
import { cookieOf, setCookie } from "./sessions.js";

/** From the first click to the proof. */
const FLOW_LIFETIME_MS: Millis = 10 * MINUTE;
/** Remembered as used; older ones have expired by then, unless somebody signs in ten times a second. */
const USED_MAX = 8_192;
const FLOW_COOKIE = "__Host-exitnode-flow";

const to = z.string().max(512);
const flow = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("oidc"), state: z.string(), nonce: z.string(), verifier: z.string(), to }),
  z.object({ kind: z.literal("passkey"), challenge: z.string(), to }),
  z.object({ kind: z.literal("enrol"), challenge: z.string() }),
]);
const sealed = z.object({ flow, expiresAtMs: z.number() });
/** What has to be the same at the end of a sign-in as at its beginning. */
export type Flow = z.infer<typeof flow>;
type FlowOf<Kind extends Flow["kind"]> = Extract<Flow, { kind: Kind }>;

export type FlowsParts = { readonly secret: Uint8Array; readonly random: Random; readonly wall: () => Millis };

/**
 * Sign-ins under way, each kept by its own browser in a sealed cookie: strangers cost the coordinator no memory, and
 * another coordinator of the same keys can go on with it.
 */
export class Flows {
  readonly #parts: FlowsParts;
  readonly #key: Uint8Array;
  readonly #used = new Set<string>();

  constructor(parts: FlowsParts) {
    this.#parts = parts;
    this.#key = hmac(parts.secret, utf8("exitnode flow cookie 1"));
  }

  /** The Set-Cookie header. */
  begin(flow: Flow): string {
    const { random, wall } = this.#parts;
    const nonce = random(BOX_NONCE_BYTES);
    const text = JSON.stringify({ flow, expiresAtMs: wall() + FLOW_LIFETIME_MS });
    const value = toBase64Url(concat(nonce, boxSeal(this.#key, nonce, utf8(text), new Uint8Array(0))));
    return setCookie(FLOW_COOKIE, value, FLOW_LIFETIME_MS);
  }

  /** Once: a second time there is none. */
  take<Kind extends Flow["kind"]>(request: Request, kind: Kind): FlowOf<Kind> | undefined {
    const bytes = fromBase64Url(cookieOf(request, FLOW_COOKIE) ?? "");
    if (bytes === undefined || bytes.length <= BOX_NONCE_BYTES) return undefined;
    const nonce = bytes.subarray(0, BOX_NONCE_BYTES);
    const text = boxOpen(this.#key, nonce, bytes.subarray(BOX_NONCE_BYTES), new Uint8Array(0));
    const found = sealed.safeParse(tryJson(fromUtf8(text ?? new Uint8Array(0)) ?? "")).data;
    const id = toHex(nonce);
    if (found === undefined || this.#parts.wall() >= found.expiresAtMs || this.#used.has(id)) return undefined;
    this.#used.add(id);
    const [oldest] = this.#used;
    if (this.#used.size > USED_MAX && oldest !== undefined) this.#used.delete(oldest);
    return found.flow.kind === kind ? (found.flow as FlowOf<Kind>) : undefined;
  }

  /** The Set-Cookie header that takes it back. */
  end(): string {
    return setCookie(FLOW_COOKIE, "", 0);
  }
}

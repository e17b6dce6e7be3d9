import { fromBase64, fromUtf8, toBase64, toHex, utf8 } from "../../kit/bytes.js";
import { BOX_NONCE_BYTES, boxOpen, boxSeal, hash } from "../../kit/crypto.js";
import { asFailure, Failure } from "../../kit/failure.js";
import { HOUR, type Millis } from "../../kit/time.js";
import type { Random } from "../../sys/random.js";
import type { Store } from "../store/store.js";
import { statusOf } from "./problem.js";

/** How long a request with an idempotency key is answered as it was the first time. */
export const REPLAY_KEPT_MS: Millis = 24 * HOUR;
/** Kept at once; the oldest are forgotten. */
export const REPLAYS_MAX = 10_000;
/** Long enough not to be guessed: answers are sealed with it. */
const KEY_PATTERN = /^[\x21-\x7e]{16,128}$/;
/** The status of a request whose answer is not known yet. */
const UNSETTLED = 0;

export type Reply = { readonly status: number; readonly body: string };
/** A request as it is told from others: who sent it, its key, and all of what it asks for. */
export type Keyed = { readonly caller: string; readonly key: string; readonly request: string };

export type ReplaysParts = { readonly store: Store; readonly random: Random; readonly wall: () => Millis };

/**
 * A request that is sent twice with one Idempotency-Key happens once, and its second answer is the first one. It is
 * noted before it is carried out: when the coordinator dies in between, a repetition is told so and nothing is done
 * twice. Answers may hold secrets (a join key), of which the store has none: they are sealed with the key, which the
 * store does not have.
 */
export class Replays {
  readonly #parts: ReplaysParts;

  constructor(parts: ReplaysParts) {
    this.#parts = parts;
  }

  async once({ caller, key, request }: Keyed, carryOut: () => Promise<Reply>): Promise<Reply> {
    if (!KEY_PATTERN.test(key))
      throw new Failure("message-invalid", "an idempotency key must have 16 to 128 visible ASCII characters");
    const id = digest("id", caller, key);
    const sealKey = hash(utf8(`exitnode replay ${caller} ${key}`));
    const known = await this.#claim(id, digest("request", request));
    if (known !== undefined) return this.#unseal(sealKey, known);
    const { store } = this.#parts;
    try {
      const reply = await carryOut();
      await store.change(({ replays }) => replays.settle(id, reply.status, this.#seal(sealKey, reply.body)));
      return reply;
    } catch (error) {
      // What was refused has changed nothing and may be tried again; what broke stays unsettled.
      if (statusOf(asFailure(error)) < 500) await store.change(({ replays }) => replays.remove(id));
      throw error;
    }
  }

  /** The reply that is there, or undefined when the request is ours to carry out. */
  #claim(id: string, requestHash: string): Promise<Reply | undefined> {
    const now = this.#parts.wall();
    return this.#parts.store.change(async ({ replays }) => {
      const row = await replays.find(id);
      if (row === undefined || row.at_ms < now - REPLAY_KEPT_MS) {
        if (row !== undefined) await replays.remove(id);
        await replays.add({ id, request_hash: requestHash, status: UNSETTLED, body: "", at_ms: now });
        await replays.prune(now - REPLAY_KEPT_MS, REPLAYS_MAX);
        return undefined;
      }
      if (row.request_hash !== requestHash)
        throw new Failure("idempotency-key-reused", "this idempotency key came with another request before", {
          advice: "take a new key for each request",
        });
      if (row.status === UNSETTLED)
        throw new Failure("request-unsettled", "a request with this idempotency key is under way, or broke off", {
          advice: "look whether it took effect, then ask again with a new key",
        });
      return { status: row.status, body: row.body };
    });
  }

  #seal(key: Uint8Array, body: string): string {
    const nonce = this.#parts.random(BOX_NONCE_BYTES);
    return `${toBase64(nonce)} ${toBase64(boxSeal(key, nonce, utf8(body), new Uint8Array(0)))}`;
  }

  #unseal(key: Uint8Array, { status, body }: Reply): Reply {
    const [nonce, sealed] = body.split(" ").map((word) => fromBase64(word));
    const opened =
      nonce === undefined || sealed === undefined ? undefined : boxOpen(key, nonce, sealed, new Uint8Array(0));
    const text = opened === undefined ? undefined : fromUtf8(opened);
    if (text === undefined) throw new Failure("store-unusable", "the answer to a repeated request cannot be read");
    return { status, body: text };
  }
}

/** The parts apart from one another, whatever is in them. */
const digest = (...parts: readonly string[]): string => toHex(hash(utf8(JSON.stringify(parts))));

import { concat, equalSecrets, utf8 } from "../kit/bytes.js";
import { BOX_NONCE_BYTES, boxOpen, boxSeal, hash, mac } from "../kit/crypto.js";
import type { Endpoint } from "../kit/endpoint.js";
import { ipBytes } from "../kit/ip.js";
import type { Millis } from "../kit/time.js";
import { COOKIE_LATENCY_MS, COOKIE_SECRET_MAX_AGE_MS, LABEL_COOKIE, LABEL_MAC1, MAC_BYTES } from "./constants.js";
import { type CookieReply, TYPE_COOKIE_REPLY } from "./messages.js";

/**
 * The two macs at the end of every handshake message, and the cookies behind the second (paper §5.3, §5.4.4, §5.4.7).
 * mac1 shows that the sender knows whom it writes to. mac2 shows that it can read what is sent to its address; a
 * responder under load asks for it by a cookie reply, without keeping anything for it.
 */

const SECRET_BYTES = 32;

/** Both keys derived from a receiver's public key: of mac1, and of the cookies it sends. */
export type MacKeys = { readonly mac1: Uint8Array; readonly cookie: Uint8Array };

function macKeysOf(receiver: Uint8Array): MacKeys {
  return { mac1: hash(utf8(LABEL_MAC1), receiver), cookie: hash(utf8(LABEL_COOKIE), receiver) };
}

/** The receiver's side: checks macs and makes cookies. */
export class CookieJudge {
  readonly #keys: MacKeys;
  #secret: { readonly bytes: Uint8Array; readonly madeAt: Millis } | undefined;

  constructor(ownPublicKey: Uint8Array) {
    this.#keys = macKeysOf(ownPublicKey);
  }

  mac1Valid(datagram: Uint8Array): boolean {
    const end = datagram.length - 2 * MAC_BYTES;
    return equalSecrets(mac(this.#keys.mac1, datagram.subarray(0, end)), datagram.subarray(end, end + MAC_BYTES));
  }

  mac2Valid(datagram: Uint8Array, from: Endpoint, now: Millis): boolean {
    if (this.#secret === undefined || now - this.#secret.madeAt >= COOKIE_SECRET_MAX_AGE_MS) return false;
    const end = datagram.length - MAC_BYTES;
    // None at all, as a flood has: told without the two macs.
    if (datagram.subarray(end).every((byte) => byte === 0)) return false;
    const cookie = cookieFor(this.#secret.bytes, from);
    return equalSecrets(mac(cookie, datagram.subarray(0, end)), datagram.subarray(end));
  }

  /** §5.4.7: the cookie is sealed with the mac1 that asked for it, so that only its sender can use it. */
  reply(
    message: { readonly sender: number; readonly mac1: Uint8Array },
    from: Endpoint,
    now: Millis,
    random: (length: number) => Uint8Array,
  ): CookieReply {
    if (this.#secret === undefined || now - this.#secret.madeAt >= COOKIE_SECRET_MAX_AGE_MS)
      this.#secret = { bytes: random(SECRET_BYTES), madeAt: now };
    const nonce = random(BOX_NONCE_BYTES);
    const cookie = cookieFor(this.#secret.bytes, from);
    const sealedCookie = boxSeal(this.#keys.cookie, nonce, cookie, message.mac1);
    return { type: TYPE_COOKIE_REPLY, receiver: message.sender, nonce, sealedCookie };
  }
}

/** The sender's side: signs handshake messages and keeps the receiver's last cookie. */
export class CookieJar {
  readonly #keys: MacKeys;
  #cookie: { readonly bytes: Uint8Array; readonly receivedAt: Millis } | undefined;
  #lastMac1: Uint8Array | undefined;

  constructor(receiver: Uint8Array) {
    this.#keys = macKeysOf(receiver);
  }

  /** §5.4.4: fills in both macs of an encoded handshake message; mac2 stays zero without a fresh cookie. */
  sign(datagram: Uint8Array, now: Millis): void {
    const end = datagram.length - 2 * MAC_BYTES;
    this.#lastMac1 = mac(this.#keys.mac1, datagram.subarray(0, end));
    datagram.set(this.#lastMac1, end);
    if (this.#cookie === undefined || now - this.#cookie.receivedAt >= COOKIE_SECRET_MAX_AGE_MS - COOKIE_LATENCY_MS)
      return;
    datagram.set(mac(this.#cookie.bytes, datagram.subarray(0, end + MAC_BYTES)), end + MAC_BYTES);
  }

  /** False when the reply does not answer our last signed message; each message is answered once. */
  take(reply: CookieReply, now: Millis): boolean {
    if (this.#lastMac1 === undefined) return false;
    const bytes = boxOpen(this.#keys.cookie, reply.nonce, reply.sealedCookie, this.#lastMac1);
    if (bytes === undefined) return false;
    this.#cookie = { bytes, receivedAt: now };
    this.#lastMac1 = undefined;
    return true;
  }
}

// §5.4.7: τ is the mac of the sender's address and port under the changing secret.
function cookieFor(secret: Uint8Array, { address, port }: Endpoint): Uint8Array {
  return mac(secret, concat(ipBytes(address), Uint8Array.of(port >> 8, port & 0xff)));
}

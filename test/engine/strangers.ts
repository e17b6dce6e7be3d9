import type { Socket } from "node:dgram";
import { dh, keyPairOf } from "../../src/kit/crypto.js";
import type { Endpoint } from "../../src/kit/endpoint.js";
import { KEY_BYTES, type Key, keyBytes } from "../../src/kit/key.js";
import type { Millis } from "../../src/kit/time.js";
import { systemRandom } from "../../src/sys/random.js";
import { CookieJar } from "../../src/wireguard/cookie.js";
import { createInitiation } from "../../src/wireguard/handshake.js";
import { encodeMessage, TYPE_COOKIE_REPLY } from "../../src/wireguard/messages.js";
import { TAI64N_BYTES } from "../../src/wireguard/tai64n.js";
import type { Place } from "./places.js";
import { socketIn } from "./placesocket.js";

/** A crowd that knows a device's public key and no more: initiations whose mac1 is right, from keys that are no peer's. */
const CROWD = 16;
/** Bursts that are made up for at once. */
const MISSED_MAX = 5;

export class Strangers {
  /** Cookie replies they got: whoever sends these is under load. */
  refused = 0;
  /** The longest time in which this process sent nothing: then nobody was under load by it. */
  longestPauseMs: Millis = 0;
  readonly #socket: Socket;
  readonly #to: Endpoint;
  readonly #initiations: readonly Uint8Array[];
  #timer: NodeJS.Timeout | undefined;

  private constructor(socket: Socket, to: Endpoint, responder: Key) {
    this.#socket = socket;
    this.#to = to;
    this.#initiations = Array.from({ length: CROWD }, () => initiationTo(keyBytes(responder)));
    socket.on("message", (datagram) => {
      if (datagram[0] === TYPE_COOKIE_REPLY) this.refused++;
    });
  }

  static async open(place: Place, from: string, to: Endpoint, responder: Key): Promise<Strangers> {
    return new Strangers(await socketIn(place, from), to, responder);
  }

  /** So many at once, again and again, until close(); what was missed is made up for. */
  flood(burst: number, everyMs: Millis): void {
    let shoutedAt = performance.now();
    const shout = (count: number): void => {
      for (let i = 0; i < count; i++) {
        const datagram = this.#initiations[i % CROWD];
        if (datagram !== undefined) this.#socket.send(datagram, this.#to.port, this.#to.address);
      }
    };
    shout(burst);
    this.#timer = setInterval(() => {
      const pauseMs = performance.now() - shoutedAt;
      shoutedAt += pauseMs;
      this.longestPauseMs = Math.max(this.longestPauseMs, pauseMs);
      shout(Math.ceil(burst * Math.min(pauseMs / everyMs, MISSED_MAX)));
    }, everyMs);
  }

  close(): void {
    clearInterval(this.#timer);
    this.#socket.close();
  }
}

function initiationTo(publicKey: Uint8Array): Uint8Array {
  const local = keyPairOf(systemRandom(KEY_BYTES));
  const remote = {
    publicKey,
    staticStatic: dh(local.privateKey, publicKey),
    presharedKey: new Uint8Array(KEY_BYTES),
  };
  const chance = { ephemeral: systemRandom(KEY_BYTES), sender: 7, timestamp: new Uint8Array(TAI64N_BYTES) };
  const created = createInitiation(local, remote, chance);
  if (created === undefined) throw new Error("a public key that no initiation can be made for");
  const datagram = encodeMessage(created.message);
  new CookieJar(publicKey).sign(datagram, 0);
  return datagram;
}

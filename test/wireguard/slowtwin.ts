import { chacha20poly1305, xchacha20poly1305 } from "@noble/ciphers/chacha.js";
import { x25519 } from "@noble/curves/ed25519.js";
import { blake2s } from "@noble/hashes/blake2.js";
import { hmac } from "@noble/hashes/hmac.js";
import { concat, utf8 } from "../../src/kit/bytes.js";
import type { Endpoint } from "../../src/kit/endpoint.js";
import { ipBytes, parseIp } from "../../src/kit/ip.js";

/**
 * WireGuard's §5.4 once more, slow and obvious: the paper's own names, another library for every primitive, counters
 * as bigints, replay as a set, every session kept. It shares no line with src/wireguard, and src/wireguard is held to
 * it byte for byte. One device with one peer, without timers.
 */
export type TwinParts = {
  readonly staticPrivate: Uint8Array;
  readonly peerPublic: Uint8Array;
  /** Q; zeros when there is none. */
  readonly presharedKey: Uint8Array;
  readonly random: (length: number) => Uint8Array;
  readonly wallMs: () => number;
};

/** What came of a datagram. */
export type Outcome =
  | { readonly kind: "answer"; readonly datagram: Uint8Array }
  | { readonly kind: "connected" }
  | { readonly kind: "cookie taken" }
  | { readonly kind: "packet"; readonly packet: Uint8Array }
  | { readonly kind: "refused" };

const REFUSED: Outcome = { kind: "refused" };

// §5.4: the functions and constants.
const ε: Uint8Array = new Uint8Array(0);
const HASH = (...parts: Uint8Array[]): Uint8Array => blake2s(concat(...parts));
const MAC = (key: Uint8Array, ...parts: Uint8Array[]): Uint8Array => blake2s(concat(...parts), { key, dkLen: 16 });
const HMAC = (key: Uint8Array, ...parts: Uint8Array[]): Uint8Array => hmac(blake2s, key, concat(...parts));
const DH = (privateKey: Uint8Array, publicKey: Uint8Array): Uint8Array => x25519.getSharedSecret(privateKey, publicKey);
const DH_PUBLIC = (privateKey: Uint8Array): Uint8Array => x25519.getPublicKey(privateKey);
const CONSTRUCTION = utf8("Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s");
const IDENTIFIER = utf8("WireGuard v1 zx2c4 Jason@zx2c4.com");
const LABEL_MAC1 = utf8("mac1----");
const LABEL_COOKIE = utf8("cookie--");

function KDF(count: number, key: Uint8Array, input: Uint8Array): Uint8Array[] {
  const τ0 = HMAC(key, input);
  const τ: Uint8Array[] = [];
  for (let i = 1; i <= count; i++) τ.push(HMAC(τ0, τ.at(-1) ?? ε, Uint8Array.of(i)));
  return τ;
}

const nonceOf = (counter: bigint): Uint8Array => concat(new Uint8Array(4), littleEndian(counter, 8));

function AEAD(key: Uint8Array, counter: bigint, plaintext: Uint8Array, auth: Uint8Array): Uint8Array {
  return chacha20poly1305(key, nonceOf(counter), auth).encrypt(plaintext);
}

function OPEN(key: Uint8Array, counter: bigint, sealed: Uint8Array, auth: Uint8Array): Uint8Array {
  return chacha20poly1305(key, nonceOf(counter), auth).decrypt(sealed);
}

export function littleEndian(value: bigint | number, length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => Number((BigInt(value) >> BigInt(8 * i)) & 0xffn));
}

function numberOf(bytes: Uint8Array): bigint {
  return bytes.reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
}

/** §5.1: TAI64N, rounded down to 2^24 ns. */
export function slowTimestamp(wallMs: number): Uint8Array {
  const nanoseconds = BigInt(wallMs) * 1_000_000n;
  const seconds = (1n << 62n) + 10n + nanoseconds / 1_000_000_000n;
  const fraction = (nanoseconds % 1_000_000_000n) & ~0xff_ffffn;
  return concat(littleEndian(seconds, 8).reverse(), littleEndian(fraction, 4).reverse());
}

type Session = { readonly T_send: Uint8Array; readonly T_recv: Uint8Array; readonly I_peer: bigint; N: bigint };
type Pending = { E_priv: Uint8Array; C: Uint8Array; H: Uint8Array };

export class SlowTwin {
  /** Under load a handshake message needs a cookie (§5.3). */
  underLoad = false;
  readonly #parts: TwinParts;
  readonly #S_pub: Uint8Array;
  readonly #pending = new Map<bigint, Pending>();
  readonly #sessions = new Map<bigint, Session>();
  readonly #received = new Set<string>();
  #sending: Session | undefined;
  #greatestTimestamp = 0n;
  #cookie: Uint8Array | undefined;
  #lastMac1 = ε;
  #R: Uint8Array | undefined;

  constructor(parts: TwinParts) {
    this.#parts = parts;
    this.#S_pub = DH_PUBLIC(parts.staticPrivate);
  }

  /** §5.4.2, the initiator. */
  initiate(): Uint8Array {
    const { staticPrivate, peerPublic, random, wallMs } = this.#parts;
    const I = random(4);
    const E_priv = random(32);
    const E_pub = DH_PUBLIC(E_priv);
    let C = HASH(CONSTRUCTION);
    let H = HASH(HASH(C, IDENTIFIER), peerPublic);
    C = one(KDF(1, C, E_pub));
    H = HASH(H, E_pub);
    let κ: Uint8Array;
    [C, κ] = two(KDF(2, C, DH(E_priv, peerPublic)));
    const msgStatic = AEAD(κ, 0n, this.#S_pub, H);
    H = HASH(H, msgStatic);
    [C, κ] = two(KDF(2, C, DH(staticPrivate, peerPublic)));
    const msgTimestamp = AEAD(κ, 0n, slowTimestamp(wallMs()), H);
    H = HASH(H, msgTimestamp);
    this.#pending.clear();
    this.#pending.set(numberOf(I), { E_priv, C, H });
    return this.#macs(concat(Uint8Array.of(1, 0, 0, 0), I, E_pub, msgStatic, msgTimestamp));
  }

  /** §5.4.6: the next transport message of the newest confirmed session. */
  send(packet: Uint8Array): Uint8Array {
    const session = this.#sending;
    if (session === undefined) throw new Error("no session");
    const P = concat(packet, new Uint8Array((16 - (packet.length % 16)) % 16));
    const head = concat(Uint8Array.of(4, 0, 0, 0), littleEndian(session.I_peer, 4), littleEndian(session.N, 8));
    const sealed = AEAD(session.T_send, session.N, P, ε);
    session.N++;
    return concat(head, sealed);
  }

  receive(datagram: Uint8Array, from: Endpoint): Outcome {
    try {
      switch (numberOf(datagram.slice(0, 4))) {
        case 1n:
          return this.#judge(datagram, from) ?? this.#receiveInitiation(datagram);
        case 2n:
          return this.#judge(datagram, from) ?? this.#receiveResponse(datagram);
        case 3n:
          return this.#receiveCookie(datagram);
        case 4n:
          return this.#receiveTransport(datagram);
        default:
          return REFUSED;
      }
    } catch {
      return REFUSED; // noble throws for a wrong tag, a low-order point, a wrong length
    }
  }

  /** §5.4.2 and §5.4.3, the responder. */
  #receiveInitiation(datagram: Uint8Array): Outcome {
    const { staticPrivate, peerPublic, presharedKey, random } = this.#parts;
    const [I_i, E_i, msgStatic, msgTimestamp] = cut(datagram, 148, [4, 32, 48, 28]);
    let C = HASH(CONSTRUCTION);
    let H = HASH(HASH(C, IDENTIFIER), this.#S_pub);
    C = one(KDF(1, C, E_i));
    H = HASH(H, E_i);
    let κ: Uint8Array;
    [C, κ] = two(KDF(2, C, DH(staticPrivate, E_i)));
    const S_i = OPEN(κ, 0n, msgStatic, H);
    if (numberOf(S_i) !== numberOf(peerPublic)) return REFUSED;
    H = HASH(H, msgStatic);
    [C, κ] = two(KDF(2, C, DH(staticPrivate, S_i)));
    const timestamp = numberOf(OPEN(κ, 0n, msgTimestamp, H).reverse());
    H = HASH(H, msgTimestamp);
    if (timestamp <= this.#greatestTimestamp) return REFUSED;
    this.#greatestTimestamp = timestamp;

    const I_r = random(4);
    const E_priv = random(32);
    const E_r = DH_PUBLIC(E_priv);
    C = one(KDF(1, C, E_r));
    H = HASH(H, E_r);
    C = one(KDF(1, C, DH(E_priv, E_i)));
    C = one(KDF(1, C, DH(E_priv, S_i)));
    const [C_last, τ, κ_empty] = three(KDF(3, C, presharedKey));
    H = HASH(H, τ);
    const msgEmpty = AEAD(κ_empty, 0n, ε, H);
    // §5.4.5
    const [T_recv, T_send] = two(KDF(2, C_last, ε));
    this.#sessions.set(numberOf(I_r), { T_send, T_recv, I_peer: numberOf(I_i), N: 0n });
    return { kind: "answer", datagram: this.#macs(concat(Uint8Array.of(2, 0, 0, 0), I_r, I_i, E_r, msgEmpty)) };
  }

  /** §5.4.3, the initiator. */
  #receiveResponse(datagram: Uint8Array): Outcome {
    const { staticPrivate, presharedKey } = this.#parts;
    const [I_r, I_i, E_r, msgEmpty] = cut(datagram, 92, [4, 4, 32, 16]);
    const pending = this.#pending.get(numberOf(I_i));
    if (pending === undefined) return REFUSED;
    let C = one(KDF(1, pending.C, E_r));
    let H = HASH(pending.H, E_r);
    C = one(KDF(1, C, DH(pending.E_priv, E_r)));
    C = one(KDF(1, C, DH(staticPrivate, E_r)));
    const [C_last, τ, κ] = three(KDF(3, C, presharedKey));
    H = HASH(H, τ);
    OPEN(κ, 0n, msgEmpty, H);
    this.#pending.clear();
    const [T_send, T_recv] = two(KDF(2, C_last, ε));
    this.#sending = { T_send, T_recv, I_peer: numberOf(I_r), N: 0n };
    this.#sessions.set(numberOf(I_i), this.#sending);
    return { kind: "connected" };
  }

  #receiveTransport(datagram: Uint8Array): Outcome {
    const [I, counter, sealed] = cut(datagram, datagram.length, [4, 8, datagram.length - 16]);
    const session = this.#sessions.get(numberOf(I));
    if (session === undefined) return REFUSED;
    const plaintext = OPEN(session.T_recv, numberOf(counter), sealed, ε);
    const seen = `${numberOf(I)} ${numberOf(counter)}`;
    if (this.#received.has(seen)) return REFUSED;
    this.#received.add(seen);
    // §5.1: the responder's session is confirmed by what comes in on it.
    const newer = [...this.#sessions.values()].indexOf(session) > this.#place();
    if (newer) this.#sending = session;
    const length = plaintext[0] === undefined ? 0 : ((plaintext[2] ?? 0) << 8) + (plaintext[3] ?? 0);
    return { kind: "packet", packet: plaintext.slice(0, length) };
  }

  #place(): number {
    return this.#sending === undefined ? -1 : [...this.#sessions.values()].indexOf(this.#sending);
  }

  // §5.4.4
  #macs(message: Uint8Array): Uint8Array {
    const mac1 = MAC(HASH(LABEL_MAC1, this.#parts.peerPublic), message);
    this.#lastMac1 = mac1;
    const msgα = concat(message, mac1);
    return concat(msgα, this.#cookie === undefined ? new Uint8Array(16) : MAC(this.#cookie, msgα));
  }

  /** §5.3, §5.4.7: nothing when the message may be handled. */
  #judge(datagram: Uint8Array, from: Endpoint): Outcome | undefined {
    const msg = datagram.slice(0, -32);
    const mac1 = datagram.slice(-32, -16);
    if (numberOf(mac1) !== numberOf(MAC(HASH(LABEL_MAC1, this.#S_pub), msg))) return REFUSED;
    if (!this.underLoad) return undefined;
    this.#R ??= this.#parts.random(32);
    const τ = MAC(this.#R, ipBytes(parseIp(from.address)), littleEndian(from.port, 2).reverse());
    if (numberOf(datagram.slice(-16)) === numberOf(MAC(τ, concat(msg, mac1)))) return undefined;
    const nonce = this.#parts.random(24);
    const cookie = xchacha20poly1305(HASH(LABEL_COOKIE, this.#S_pub), nonce, mac1).encrypt(τ);
    return { kind: "answer", datagram: concat(Uint8Array.of(3, 0, 0, 0), datagram.slice(4, 8), nonce, cookie) };
  }

  // §5.4.7, the side that asked.
  #receiveCookie(datagram: Uint8Array): Outcome {
    const [I, nonce, sealed] = cut(datagram, 64, [4, 24, 32]);
    if (!this.#pending.has(numberOf(I)) && !this.#sessions.has(numberOf(I))) return REFUSED;
    const key = HASH(LABEL_COOKIE, this.#parts.peerPublic);
    this.#cookie = xchacha20poly1305(key, nonce, this.#lastMac1).decrypt(sealed);
    return { kind: "cookie taken" };
  }
}

/** The fields after the type, of a message that must have this length. */
function cut(datagram: Uint8Array, length: number, fields: readonly number[]): Four {
  if (datagram.length !== length) throw new RangeError("length");
  const [a = 0, b = 0, c = 0, d = 0] = fields;
  const field = (at: number, bytes: number): Uint8Array => datagram.slice(4 + at, 4 + at + bytes);
  return [field(0, a), field(a, b), field(a + b, c), field(a + b + c, d)];
}

type Four = [Uint8Array, Uint8Array, Uint8Array, Uint8Array];
const one = ([a = ε]: Uint8Array[]): Uint8Array => a;
const two = ([a = ε, b = ε]: Uint8Array[]): [Uint8Array, Uint8Array] => [a, b];
const three = ([a = ε, b = ε, c = ε]: Uint8Array[]): [Uint8Array, Uint8Array, Uint8Array] => [a, b, c];

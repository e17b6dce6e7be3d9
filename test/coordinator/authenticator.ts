import { createHash, generateKeyPairSync, randomBytes, sign } from "node:crypto";

/** A passkey with real keys and signatures, and the mistakes a test wants it to make. */
export type Mistakes = {
  readonly origin?: string;
  readonly rpId?: string;
  readonly challenge?: string;
  readonly type?: string;
  /** Neither finger nor PIN. */
  readonly unverified?: boolean;
  readonly forged?: boolean;
};

const USER_PRESENT = 0x01;
const USER_VERIFIED = 0x04;
const ATTESTED = 0x40;

export class Authenticator {
  readonly id = randomBytes(32);
  counter = 0;
  readonly #keys = generateKeyPairSync("ec", { namedCurve: "P-256" });
  readonly #origin: string;
  readonly #rpId: string;

  constructor(origin: string) {
    this.#origin = origin;
    this.#rpId = new URL(origin).hostname;
  }

  /** navigator.credentials.create() */
  create(challenge: string, mistakes: Mistakes = {}): unknown {
    const clientData = this.#clientData("webauthn.create", challenge, mistakes);
    // WebAuthn §6.5.1: AAGUID, length of the id, the id, the public key in COSE.
    const attested = Buffer.concat([Buffer.alloc(16), u16(this.id.length), this.id, this.#coseKey()]);
    const authData = Buffer.concat([this.#authData(ATTESTED, mistakes), attested]);
    const attestationObject = cborMap([
      [cborText("fmt"), cborText("none")],
      [cborText("attStmt"), cborMap([])],
      [cborText("authData"), cborBytes(authData)],
    ]);
    return this.#answer({ clientDataJSON: url64(clientData), attestationObject: url64(attestationObject) });
  }

  /** navigator.credentials.get() */
  get(challenge: string, mistakes: Mistakes = {}): unknown {
    this.counter++;
    const clientData = this.#clientData("webauthn.get", challenge, mistakes);
    const authenticatorData = this.#authData(0, mistakes);
    const signed = Buffer.concat([authenticatorData, createHash("sha256").update(clientData).digest()]);
    const signature = sign(
      "sha256",
      mistakes.forged ? Buffer.concat([signed, Buffer.of(0)]) : signed,
      this.#keys.privateKey,
    );
    return this.#answer({
      clientDataJSON: url64(clientData),
      authenticatorData: url64(authenticatorData),
      signature: url64(signature),
    });
  }

  #answer(response: Readonly<Record<string, string>>): unknown {
    const id = url64(this.id);
    return { id, rawId: id, type: "public-key", clientExtensionResults: {}, response };
  }

  #clientData(type: string, challenge: string, mistakes: Mistakes): Buffer {
    const data = { type, challenge, origin: this.#origin, crossOrigin: false };
    const { origin = data.origin, challenge: other = challenge, type: kind = type } = mistakes;
    return Buffer.from(JSON.stringify({ ...data, type: kind, challenge: other, origin }));
  }

  #authData(flags: number, { rpId = this.#rpId, unverified = false }: Mistakes): Buffer {
    const counter = Buffer.alloc(4);
    counter.writeUInt32BE(this.counter);
    const all = flags | USER_PRESENT | (unverified ? 0 : USER_VERIFIED);
    return Buffer.concat([createHash("sha256").update(rpId).digest(), Buffer.of(all), counter]);
  }

  /** RFC 9053 §7.1.1: kty EC2, alg ES256, crv P-256. */
  #coseKey(): Buffer {
    const { x = "", y = "" } = this.#keys.publicKey.export({ format: "jwk" });
    return cborMap([
      [cborInt(1), cborInt(2)],
      [cborInt(3), cborInt(-7)],
      [cborInt(-1), cborInt(1)],
      [cborInt(-2), cborBytes(Buffer.from(x, "base64url"))],
      [cborInt(-3), cborBytes(Buffer.from(y, "base64url"))],
    ]);
  }
}

const url64 = (bytes: Buffer): string => bytes.toString("base64url");
const u16 = (value: number): Buffer => Buffer.of(value >> 8, value & 255);

/** RFC 8949 §3: as much as a passkey says. */
function cborHead(major: number, value: number): Buffer {
  if (value < 24) return Buffer.of((major << 5) | value);
  return value < 256 ? Buffer.of((major << 5) | 24, value) : Buffer.concat([Buffer.of((major << 5) | 25), u16(value)]);
}
const cborInt = (value: number): Buffer => (value < 0 ? cborHead(1, -1 - value) : cborHead(0, value));
const cborBytes = (bytes: Buffer): Buffer => Buffer.concat([cborHead(2, bytes.length), bytes]);
const cborText = (text: string): Buffer => Buffer.concat([cborHead(3, text.length), Buffer.from(text)]);
const cborMap = (entries: readonly (readonly [Buffer, Buffer])[]): Buffer =>
  Buffer.concat([cborHead(5, entries.length), ...entries.flat()]);

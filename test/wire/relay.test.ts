import assert from "node:assert/strict";
import { test } from "node:test";
import { toHex, utf8 } from "../../src/kit/bytes.js";
import { hash } from "../../src/kit/crypto.js";
import { Failure } from "../../src/kit/failure.js";
import { keyOf } from "../../src/kit/key.js";
import { MINUTE, SECOND } from "../../src/kit/time.js";
import {
  ADMISSION_BYTES,
  CLOCK_SKEW_MAX_MS,
  issueRevocation,
  REVOCATION_BYTES,
  stayOf,
  verifyAdmission,
  verifyRevocation,
} from "../../src/wire/admission.js";
import {
  decodeDialBack,
  decodeRefused,
  decodeRestarting,
  decodeWelcome,
  encodeDialBack,
  encodeFrame,
  encodeRefused,
  encodeRestarting,
  encodeWelcome,
  FRAME,
  HEADER_BYTES,
} from "../../src/wire/relay.js";
import { decodeRelayConfig } from "../../src/wire/relayconfig.js";
import { addressOf, admissionOf, machineOf, SIGNER, SIGNERS, WALL } from "../relay/relaylab.js";

const table: {
  name: string;
  frame: Uint8Array;
  hex: string;
  decoded: unknown;
  decode: (body: Uint8Array) => unknown;
}[] = [
  {
    name: "refused",
    frame: encodeRefused("revoked"),
    hex: "05 0001 07",
    decode: decodeRefused,
    decoded: "revoked",
  },
  {
    name: "restarting",
    frame: encodeRestarting({ waitMs: 1_000, spreadMs: 4_000 }),
    hex: "23 0008 000003e8 00000fa0",
    decode: decodeRestarting,
    decoded: { waitMs: 1_000, spreadMs: 4_000 },
  },
  {
    name: "dial back",
    frame: encodeDialBack({ port: 51_820, token: new Uint8Array(16).fill(0xaa) }),
    hex: `24 0012 ca6c ${"aa".repeat(16)}`,
    decode: decodeDialBack,
    decoded: { port: 51_820, token: new Uint8Array(16).fill(0xaa) },
  },
  {
    name: "welcome, before it is sealed",
    frame: encodeFrame(FRAME.welcome, encodeWelcome({ pingEveryMs: 25_000, address: "203.0.113.7" })),
    hex: "04 0010 01 000061a8 3230332e302e3131332e37",
    decode: decodeWelcome,
    decoded: { pingEveryMs: 25_000, address: "203.0.113.7" },
  },
];
for (const { name, frame, hex, decode, decoded } of table)
  test(`relay frame, ${name}: these bytes, both ways, and no shorter or longer ones`, () => {
    assert.equal(toHex(frame), hex.replaceAll(" ", ""));
    const body = frame.slice(HEADER_BYTES);
    assert.deepEqual(decode(body), decoded);
    if (name.startsWith("welcome")) return; // its end is the address's end
    assert.equal(decode(body.slice(1)), undefined);
    assert.equal(decode(Uint8Array.of(...body, 0)), undefined);
  });

test("an admission is 138 bytes and says what was signed", () => {
  const token = admissionOf("laptop", { rateClass: 1 });
  assert.equal(token.length, ADMISSION_BYTES);
  assert.equal(toHex(token.subarray(0, 10)), "01016afd86c06afd87ec");
  assert.deepEqual(verifyAdmission(token, SIGNERS, WALL), {
    network: 0,
    admission: {
      machineKey: keyOf(machineOf("laptop").publicKey),
      publicKey: addressOf("laptop"),
      rateClass: 1,
      issuedAt: WALL,
      expiresAt: WALL + 5 * MINUTE,
    },
  });
});

test("an admission is refused when any bit of it was changed", () => {
  const token = admissionOf("laptop");
  for (let at = 0; at < token.length; at++) {
    const forged = token.slice();
    forged[at] = (forged[at] ?? 0) ^ 1;
    assert.match(String(verifyAdmission(forged, SIGNERS, WALL)), /forged|malformed/);
  }
});

for (const { name, token, now, says } of [
  {
    name: "that has expired",
    token: admissionOf("laptop"),
    now: WALL + 5 * MINUTE + CLOCK_SKEW_MAX_MS,
    says: "expired",
  },
  { name: "of tomorrow", token: admissionOf("laptop"), now: WALL - 2 * CLOCK_SKEW_MAX_MS, says: "not-yet" },
  { name: "for a day", token: admissionOf("laptop", { lifetimeMs: 1_440 * MINUTE }), now: WALL, says: "too-long" },
  { name: "that is cut off", token: admissionOf("laptop").slice(1), now: WALL, says: "malformed" },
  {
    name: "of a coordinator that is not ours",
    token: admissionOf("laptop", {}, hash(utf8("x"))),
    now: WALL,
    says: "forged",
  },
  { name: "with a class that is none", token: admissionOf("laptop", { rateClass: 9 }), now: WALL, says: "malformed" },
] as const)
  test(`an admission ${name} is refused as ${says}`, () => assert.equal(verifyAdmission(token, SIGNERS, now), says));

for (const minutes of [-10, 10])
  test(`a relay whose clock is ${minutes} minutes off takes a fresh admission, for as long as it was made for`, () => {
    const verified = verifyAdmission(admissionOf("laptop"), SIGNERS, WALL + minutes * MINUTE);
    assert.ok(typeof verified !== "string");
    assert.equal(stayOf(verified.admission, WALL + minutes * MINUTE), 5 * MINUTE);
  });

test("a revocation is 119 bytes, holds while the clocks may differ, and no altered one does", () => {
  const nonce = new Uint8Array(16).fill(5);
  const token = issueRevocation(SIGNER, addressOf("laptop"), nonce, WALL);
  assert.equal(token.length, REVOCATION_BYTES);
  assert.deepEqual(verifyRevocation(token, SIGNERS, WALL + SECOND), {
    key: addressOf("laptop"),
    issuedAt: WALL,
    nonce,
  });
  assert.equal(verifyRevocation(token, SIGNERS, WALL + CLOCK_SKEW_MAX_MS + SECOND), undefined);
  assert.equal(verifyRevocation(token, SIGNERS, WALL - CLOCK_SKEW_MAX_MS - SECOND), undefined);
  for (let at = 0; at < token.length; at++)
    assert.equal(
      verifyRevocation(
        token.map((byte, i) => (i === at ? byte ^ 0x80 : byte)),
        SIGNERS,
        WALL,
      ),
      undefined,
    );
  assert.equal(verifyAdmission(token, SIGNERS, WALL), "malformed");
});

for (const [value, words] of [
  [{}, "coordinatorKeys: expected a list of 1 to 8"],
  [{ coordinatorKeys: ["x"] }, "coordinatorKeys.0: expected a 32-byte base64 key"],
  [
    { coordinatorKeys: [addressOf("a")], listen: { port: 70_000 } },
    "listen.port: expected a whole number from 0 to 65535",
  ],
  [{ coordinatorKeys: [addressOf("a")], metrics: {} }, "metrics.port: expected a whole number"],
  [{ coordinatorKeys: [addressOf("a")], tls: { key: "k" } }, "tls.certificate: expected a text"],
  [
    { coordinatorKeys: [addressOf("a")], stun: 1 },
    '(whole): expected one of listen, stunPort, otherStunPort, coordinatorKeys, hosts, tls, metrics, bytesPerSecondMax, got "stun"',
  ],
  [[], "(whole): expected an object"],
  [undefined, "(whole): expected an object"],
] as const)
  test(`relay.json with ${JSON.stringify(value)} says: ${words}`, () => {
    assert.throws(
      () => decodeRelayConfig(value, "relay.json"),
      (error) => error instanceof Failure && error.message.includes(words),
    );
  });

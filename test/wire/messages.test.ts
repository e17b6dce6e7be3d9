import assert from "node:assert/strict";
import { test } from "node:test";
import { toHex, utf8 } from "../../src/kit/bytes.js";
import { hash } from "../../src/kit/crypto.js";
import type { Cidr, Ip } from "../../src/kit/ip.js";
import { keyOf } from "../../src/kit/key.js";
import { KEY_LIFETIME_MS_DEFAULT, keyRequest } from "../../src/wire/adminapi.js";
import { agentAnswer, agentRequest } from "../../src/wire/agentsocket.js";
import {
  decodeToCoordinator,
  decodeToDevice,
  encodeControl,
  type ToCoordinator,
  type ToDevice,
} from "../../src/wire/control.js";
import { decodeJoinKey, encodeJoinKey } from "../../src/wire/joinkey.js";
import { lockKeyOf, SHUT_OUT_MAX, signRecord, TRUSTED_MAX } from "../../src/wire/lock.js";

const key = keyOf(hash(utf8("a key")));
const report = {
  endpoints: ["203.0.113.7:51820", "[2001:db8::7]:51820"],
  routes: ["0.0.0.0/0" as Cidr],
  resolvers: [],
};
const hello: ToCoordinator = {
  type: "hello",
  version: 1,
  agentVersion: "0.1.0",
  name: "laptop",
  publicKey: key,
  joinSecret: "s".repeat(43),
  report,
};

const upward: { name: string; message: ToCoordinator; text: string }[] = [
  {
    name: "hello",
    message: hello,
    text: `{"type":"hello","version":1,"agentVersion":"0.1.0","name":"laptop","publicKey":"${key}","joinSecret":"${"s".repeat(43)}","report":{"endpoints":["203.0.113.7:51820","[2001:db8::7]:51820"],"routes":["0.0.0.0/0"],"resolvers":[]}}`,
  },
  {
    name: "report of nothing",
    message: { type: "report", report: { endpoints: [], routes: [], resolvers: [] } },
    text: `{"type":"report","report":{"endpoints":[],"routes":[],"resolvers":[]}}`,
  },
  { name: "ping", message: { type: "ping", sentAt: 12.5 }, text: `{"type":"ping","sentAt":12.5}` },
  { name: "pong", message: { type: "pong", sentAt: 12.5 }, text: `{"type":"pong","sentAt":12.5}` },
];

const downward: { name: string; message: ToDevice; text: string }[] = [
  {
    name: "welcome",
    message: { type: "welcome", deviceId: "d1", coordinatorVersion: "0.1.0" },
    text: `{"type":"welcome","deviceId":"d1","coordinatorVersion":"0.1.0"}`,
  },
  {
    name: "refused",
    message: { type: "refused", code: "device-revoked", message: "this device was revoked" },
    text: `{"type":"refused","code":"device-revoked","message":"this device was revoked"}`,
  },
  {
    name: "map with one peer",
    message: {
      type: "map",
      map: {
        seq: 7,
        self: { id: "d1", name: "laptop", role: "device", addresses: ["100.64.0.2" as Ip, "fd00::2" as Ip] },
        ranges: ["100.64.0.0/10" as Cidr],
        mtu: 1280,
        peers: [
          {
            id: "d0",
            name: "home",
            role: "exit-node",
            publicKey: key,
            addresses: ["100.64.0.1" as Ip],
            routes: ["0.0.0.0/0" as Cidr],
            endpoints: ["203.0.113.7:51820"],
            resolvers: ["100.64.0.1" as Ip],
            online: true,
          },
        ],
      },
    },
    text: `{"type":"map","map":{"seq":7,"self":{"id":"d1","name":"laptop","role":"device","addresses":["100.64.0.2","fd00::2"]},"ranges":["100.64.0.0/10"],"mtu":1280,"peers":[{"id":"d0","name":"home","role":"exit-node","publicKey":"${key}","addresses":["100.64.0.1"],"routes":["0.0.0.0/0"],"endpoints":["203.0.113.7:51820"],"resolvers":["100.64.0.1"],"online":true}]}}`,
  },
  { name: "ping", message: { type: "ping", sentAt: 1 }, text: `{"type":"ping","sentAt":1}` },
  { name: "pong", message: { type: "pong", sentAt: 1 }, text: `{"type":"pong","sentAt":1}` },
];

for (const { name, message, text } of upward) {
  test(`to the coordinator, ${name}: encodes and decodes`, () => {
    assert.equal(new TextDecoder().decode(encodeControl(message)), text);
    assert.deepEqual(decodeToCoordinator(utf8(text)), message);
  });
}
for (const { name, message, text } of downward) {
  test(`to the device, ${name}: encodes and decodes`, () => {
    assert.equal(new TextDecoder().decode(encodeControl(message)), text);
    assert.deepEqual(decodeToDevice(utf8(text)), message);
  });
}

for (const { name, bytes } of [
  { name: "nothing", bytes: new Uint8Array(0) },
  { name: "no JSON", bytes: utf8("{") },
  { name: "no UTF-8", bytes: Uint8Array.of(0xff, 0xfe) },
  { name: "a type of another version", bytes: utf8(`{"type":"dance"}`) },
  { name: "a name that is no DNS label", bytes: utf8(JSON.stringify({ ...hello, name: "Über Laptop" })) },
  { name: "a key of 31 bytes", bytes: utf8(JSON.stringify({ ...hello, publicKey: "AAAA" })) },
  {
    name: "more endpoints than there is room for",
    bytes: utf8(JSON.stringify({ ...hello, report: { ...report, endpoints: Array(17).fill("203.0.113.7:1") } })),
  },
])
  test(`${name} is no message`, () => {
    assert.equal(decodeToCoordinator(bytes), undefined);
    assert.equal(decodeToDevice(bytes), undefined);
  });

const joinKey = { coordinatorKey: key, urls: ["https://203.0.113.7:443"], secret: "s".repeat(43) };

test("a join key carries the coordinator's key, its URLs and the secret", () => {
  assert.deepEqual(decodeJoinKey(`  ${encodeJoinKey(joinKey)}\n`), joinKey);
});

test("a join key that lost or changed a character says so, without repeating it", () => {
  const text = encodeJoinKey(joinKey);
  for (const spoilt of [
    text.slice(0, -1),
    `${text.slice(0, 30)}A${text.slice(31)}`,
    text.slice(8),
    "",
    text.repeat(60),
  ])
    assert.throws(
      () => decodeJoinKey(spoilt),
      (error: Error) =>
        "code" in error && error.code === "join-key-invalid" && !error.message.includes(text.slice(20, 40)),
    );
});

test("a join key carries a record of the device lock, the fullest too, and none that nobody has signed", () => {
  const keys = Array.from({ length: TRUSTED_MAX + SHUT_OUT_MAX }, (_, at) => lockKeyOf(hash(utf8(`${at}`))));
  const [signer = lockKeyOf(hash(utf8("nobody"))), ...others] = keys;
  const trust = { lock: "0".repeat(32), version: 1, secretHash: "0".repeat(64) };
  const publicOf = (some: typeof keys) => some.map((one) => one.key);
  const small = signRecord(signer, { ...trust, keys: [signer.key], shutOut: [] });
  const [trusted, shutOut] = [[signer, ...others.slice(0, TRUSTED_MAX - 1)], others.slice(TRUSTED_MAX - 1)];
  const full = signRecord(signer, { ...trust, keys: publicOf(trusted), shutOut: publicOf(shutOut) });
  const urls = Array.from({ length: 8 }, (_, at) => `https://coordinator-${at}.of-a-network.example.com:8443`);
  for (const whole of [
    { ...joinKey, record: small },
    { ...joinKey, urls, record: full },
  ])
    assert.deepEqual(decodeJoinKey(encodeJoinKey(whole)), whole);
  const altered = `${small.slice(0, 40)}${small[40] === "A" ? "B" : "A"}${small.slice(41)}`;
  assert.throws(() => decodeJoinKey(encodeJoinKey({ ...joinKey, record: altered })), /not a whole join key/);
});

test("the request for a join key has defaults, bounds, and no fields of its own", () => {
  assert.deepEqual(keyRequest.parse({ role: "device" }), {
    role: "device",
    lifetimeMs: KEY_LIFETIME_MS_DEFAULT,
    reusable: false,
    ephemeral: false,
    tags: [],
  });
  for (const wrong of [{}, { role: "king" }, { role: "device", lifetimeMs: 1 }, { role: "device", reuseable: true }])
    assert.equal(keyRequest.safeParse(wrong).success, false);
});

for (const { text, ok } of [
  { text: `{"do":"status"}`, ok: true },
  { text: `{"do":"use","exit":"home"}`, ok: true },
  { text: `{"do":"use","exit":null}`, ok: true },
  { text: `{"do":"use"}`, ok: false },
  { text: `{"do":"format"}`, ok: false },
])
  test(`the agent's socket ${ok ? "takes" : "does not take"} ${text}`, () => {
    assert.equal(agentRequest.safeParse(JSON.parse(text)).success, ok);
  });

test("an answer of the agent is a value or an error", () => {
  assert.ok(agentAnswer.safeParse({ ok: true, value: { any: "thing" } }).success);
  assert.ok(agentAnswer.safeParse({ ok: false, error: { code: "x", message: "y" } }).success);
  assert.equal(agentAnswer.safeParse({ ok: false }).success, false);
});

test("the bytes of a message are its JSON in UTF-8 and nothing else", () => {
  assert.equal(toHex(encodeControl({ type: "ping", sentAt: 1 })), toHex(utf8(`{"type":"ping","sentAt":1}`)));
});

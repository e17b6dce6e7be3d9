import assert from "node:assert/strict";
import { test } from "node:test";
import { nextAddresses, ulaPrefix } from "../../src/coordinator/addresses.js";
import type { Device } from "../../src/coordinator/device.js";
import { usableEndpoints } from "../../src/coordinator/endpoints.js";
import { admit, freeName, type Hello, type Network } from "../../src/coordinator/entrance.js";
import { forgettableKeys, KEYS_MAX, keyState, type StoredKey } from "../../src/coordinator/joinkeys.js";
import { ATTEMPTS_MAX, LOCKOUT_MS, Lockout } from "../../src/coordinator/lockout.js";
import { encodeMap, headOf, headTexts, peerOf } from "../../src/coordinator/netmap.js";
import { Roster } from "../../src/coordinator/roster.js";
import { approvedRoutes } from "../../src/coordinator/routes.js";
import { Visibility } from "../../src/coordinator/visibility.js";
import { utf8 } from "../../src/kit/bytes.js";
import { hash } from "../../src/kit/crypto.js";
import type { Cidr, Ip } from "../../src/kit/ip.js";
import { type Key, keyOf } from "../../src/kit/key.js";
import { networkMap } from "../../src/wire/map.js";

const NOW = 1_000_000;
const range = "100.64.0.0/10" as Cidr;
const ula = ulaPrefix(Uint8Array.of(1, 2, 3, 4, 5));
const keyFor = (word: string): Key => keyOf(hash(utf8(word)));
const report = { endpoints: [], routes: [], resolvers: [] };

const joinKey: StoredKey = {
  id: "k1",
  secretHash: "",
  role: "device",
  reusable: false,
  createdAtMs: NOW,
  expiresAtMs: NOW + 1_000,
  tags: [],
  ephemeral: false,
  preapproved: true,
};

function device(name: string, more: Partial<Device> = {}): Device {
  const n = name.length;
  return {
    id: `d-${name}`,
    name,
    wantedName: name,
    role: "device",
    machineKey: keyFor(`machine ${name}`),
    publicKey: keyFor(`wireguard ${name}`),
    ipv4: `100.64.9.${n}` as Ip,
    ipv6: `fd01:203:405::9:${n}` as Ip,
    report,
    agentVersion: "0",
    createdAtMs: 0,
    tags: [],
    ephemeral: false,
    approvedAtMs: 0,
    approvedRoutes: [],
    ...more,
  };
}

const hello = (name: string, more: Partial<Hello> = {}): Hello => ({
  type: "hello",
  version: 1,
  agentVersion: "1",
  name,
  publicKey: keyFor(`wireguard ${name}`),
  joinSecret: "secret",
  report,
  ...more,
});

const network = (...devices: Device[]): Network => ({ devices: Roster.of(devices), range, ula, devicesMax: 100 });

test("the prefix of a new network is a ULA /48 with 40 random bits", () => {
  assert.equal(ula, "fd01:203:405::/48");
});

test("addresses: the lowest free pair, never one that ends in .0 or .255", () => {
  const taken = new Set<Ip>();
  for (let n = 0; n < 254; n++) {
    const next = nextAddresses(range, ula, taken) ?? assert.fail("the range is large");
    taken.add(next.ipv4).add(next.ipv6);
  }
  assert.ok(taken.has("100.64.0.1" as Ip) && taken.has("fd01:203:405::1" as Ip) && taken.has("100.64.0.254" as Ip));
  assert.deepEqual(nextAddresses(range, ula, taken), {
    ...{ ipv4: "100.64.1.1", ipv6: "fd01:203:405::101" },
    offset: 257n,
  });
  taken.delete("100.64.0.7" as Ip);
  taken.delete("fd01:203:405::7" as Ip);
  assert.equal(nextAddresses(range, ula, taken)?.ipv4, "100.64.0.7");
});

test("addresses: a full range gives none", () => {
  assert.deepEqual(nextAddresses("10.9.8.0/30" as Cidr, ula, new Set())?.ipv4, "10.9.8.1");
  assert.equal(nextAddresses("10.9.8.0/30" as Cidr, ula, new Set(["10.9.8.1", "10.9.8.2"] as Ip[])), undefined);
});

test("routes: an exit node's default routes are approved, of anybody's others what an administrator approved", () => {
  const reported = ["0.0.0.0/0", "192.168.1.0/24", "128.0.0.0/1"] as Cidr[];
  const routesOf = (role: Device["role"], routes: Cidr[], approved: Cidr[] = []): Cidr[] =>
    approvedRoutes({ role, report: { routes }, approvedRoutes: approved });
  assert.deepEqual(routesOf("exit-node", reported), ["0.0.0.0/0"]);
  assert.deepEqual(routesOf("exit-node", ["::/0", "0.0.0.0/0"] as Cidr[]), ["0.0.0.0/0", "::/0"]);
  assert.deepEqual(routesOf("device", reported), []);
  assert.deepEqual(routesOf("device", reported, ["192.168.1.0/24", "10.0.0.0/8"] as Cidr[]), ["192.168.1.0/24"]);
});

test("endpoints: what parses and can be reached, once, in the device's order", () => {
  const reported = [
    "203.0.113.7:51820",
    "192.168.1.5:51820",
    "[2001:DB8::7]:1",
    "[2001:db8::7]:1",
    "127.0.0.1:1",
    "0.0.0.0:1",
    "169.254.3.3:1",
    "224.0.0.1:1",
    "255.255.255.255:1",
    "[::1]:1",
    "[::]:1",
    "[fe80::1]:1",
    "[ff02::1]:1",
    "[::ffff:10.0.0.1]:1",
    "100.64.0.2:51820",
    "[fd01:203:405::2]:1",
    "example.com:1",
    "203.0.113.7:0",
  ];
  assert.deepEqual(usableEndpoints(reported, [range, ula]), [
    "203.0.113.7:51820",
    "192.168.1.5:51820",
    "[2001:db8::7]:1",
  ]);
});

for (const { name, state, now = NOW, ...more } of [
  { name: "fresh", state: "valid" },
  { name: "at its end", state: "expired", now: NOW + 1_000 },
  { name: "used", state: "used", usedAtMs: NOW },
  { name: "used and reusable", state: "valid", usedAtMs: NOW, reusable: true },
  { name: "used, then expired", state: "used", usedAtMs: NOW, now: NOW + 5_000 },
  { name: "revoked, whatever else", state: "revoked", revokedAtMs: NOW, usedAtMs: NOW },
])
  test(`a join key ${name} is ${state}`, () => assert.equal(keyState({ ...joinKey, ...more }, now), state));

test("dead keys make room for a new one, the oldest first, and valid ones never do", () => {
  const valid = Array.from({ length: KEYS_MAX }, (_, n) => ({ ...joinKey, id: `v${n}` }));
  assert.deepEqual(forgettableKeys(valid, NOW), []);
  const dead = [2, 1].map((at) => ({ ...joinKey, id: `u${at}`, createdAtMs: at, usedAtMs: NOW }));
  assert.deepEqual(forgettableKeys([...dead, ...valid.slice(2)], NOW), ["u1"]);
  assert.deepEqual(forgettableKeys(dead, NOW), []);
  assert.deepEqual(forgettableKeys(dead, NOW + 40 * 24 * 3_600_000), ["u1", "u2"]);
});

for (const { name, given, key, says, expect } of [
  { name: "another protocol version", given: [], key: joinKey, says: { version: 2 }, expect: "version-unsupported" },
  {
    name: "a stranger without a key",
    given: [],
    key: undefined,
    says: { joinSecret: undefined },
    expect: "join-key-required",
  },
  { name: "a key nobody made", given: [], key: undefined, says: {}, expect: "join-key-unknown" },
  { name: "an expired key", given: [], key: { ...joinKey, expiresAtMs: NOW }, says: {}, expect: "join-key-expired" },
  { name: "a used key", given: [], key: { ...joinKey, usedAtMs: 1 }, says: {}, expect: "join-key-used" },
  {
    name: "a revoked machine with a new key",
    given: [device("new", { revokedAtMs: 1 })],
    key: joinKey,
    says: {},
    expect: "device-revoked",
  },
  {
    name: "an exit node of a taken name",
    given: [device("old")],
    key: { ...joinKey, role: "exit-node" as const, name: "old" },
    says: {},
    expect: "name-taken",
  },
  {
    name: "somebody else's WireGuard key",
    given: [device("old")],
    key: joinKey,
    says: { publicKey: keyFor("wireguard old") },
    expect: "key-taken",
  },
])
  test(`${name} is refused: ${expect}`, () => {
    const { joinSecret, ...said } = { ...hello("new"), ...says };
    const whole = joinSecret === undefined ? said : { ...said, joinSecret };
    assert.deepEqual(admit(network(...given), whole, keyFor("machine new"), key, "id", NOW), {
      kind: "refused",
      code: expect,
    });
  });

test("a full network refuses a new machine and not a known one", () => {
  const full = { ...network(device("one")), devicesMax: 1 };
  assert.deepEqual(admit(full, hello("two"), keyFor("machine two"), joinKey, "id", NOW), {
    kind: "refused",
    code: "full",
  });
  assert.equal(admit(full, hello("one"), keyFor("machine one"), undefined, "id", NOW).kind, "known");
});

test("a known machine needs no key, brings a new WireGuard key, and keeps its name and addresses", () => {
  const known = device("phone-2", { wantedName: "phone", machineKey: keyFor("machine x") });
  const publicKey = keyFor("rotated");
  const admitted = admit(
    network(device("phone"), known),
    hello("phone", { publicKey }),
    keyFor("machine x"),
    undefined,
    "id",
    NOW,
  );
  assert.deepEqual(admitted, { kind: "known", device: { ...known, publicKey, agentVersion: "1" } });
});

test("a known device that asks for another name gets it, and an exit node only when it is free", () => {
  const rename = (role: Device["role"]): string | undefined => {
    const known = device("old", { role });
    const admitted = admit(
      network(device("new"), known),
      hello("new", { publicKey: known.publicKey }),
      known.machineKey,
      undefined,
      "id",
      NOW,
    );
    return admitted.kind === "known" ? admitted.device.name : undefined;
  };
  assert.equal(rename("device"), "new-2");
  assert.equal(rename("exit-node"), "old");
});

test("the role and the name come from the join key, not from the machine", () => {
  const admitted = admit(
    network(),
    hello("x"),
    keyFor("m"),
    { ...joinKey, role: "exit-node", name: "home" },
    "id",
    NOW,
  );
  assert.equal(admitted.kind === "new" && admitted.device.role, "exit-node");
  assert.equal(admitted.kind === "new" && admitted.device.name, "home");
});

test("a name with a number stays a DNS label", () => {
  const long = `${"a".repeat(60)}-bc`;
  assert.equal(
    freeName(long, (name) => [long].includes(name)),
    `${"a".repeat(60)}-2`,
  );
  assert.equal(
    freeName("a", (name) => ["a", "a-2"].includes(name)),
    "a-3",
  );
});

test("the map's text is the map, whole", () => {
  const facts = { ranges: [range, ula], mtu: 1280, whoami: ["https://ip.example/"], relays: [] };
  const [self, other] = [
    device("laptop"),
    device("home", { role: "exit-node", report: { ...report, routes: ["0.0.0.0/0"] as Cidr[] } }),
  ];
  const peer = peerOf(other, true, facts);
  const text = encodeMap(9, headTexts(headOf(self, facts)), [JSON.stringify(peer)]);
  assert.deepEqual(networkMap.parse(JSON.parse(text)), {
    seq: 9,
    self: { id: self.id, name: "laptop", role: "device", addresses: [self.ipv4, self.ipv6] },
    ranges: [range, ula],
    mtu: 1280,
    whoami: ["https://ip.example/"],
    peers: [peer],
  });
  assert.deepEqual(peer.routes, ["0.0.0.0/0"]);
});

test("nobody knows itself, a revoked, expired or unapproved device, or anything once revoked", () => {
  const [one, two, gone] = [device("one"), device("other"), device("gone", { revokedAtMs: 1 })];
  const expired = device("expired", { keyExpiresAtMs: NOW });
  const { approvedAtMs: _, ...waiting } = device("waiting");
  const all = [one, two, gone, expired, waiting];
  const visibility = new Visibility({ devices: new Map(all.map((each) => [each.id, each])), wall: () => NOW });
  assert.deepEqual(
    all.map((each) => visibility.mayKnow(one, each)),
    [false, true, false, false, false],
  );
  assert.deepEqual(
    all.map((each) => visibility.peersOf(each).map(({ name }) => name)),
    [["other"], ["one"], [], [], []],
  );
});

test("an address is locked out after its wrong tokens, for a minute, and others are not", () => {
  const lockout = new Lockout();
  for (let n = 0; n < ATTEMPTS_MAX; n++) {
    assert.equal(lockout.isLocked("203.0.113.9", NOW), false);
    lockout.failed("203.0.113.9", NOW);
  }
  assert.equal(lockout.isLocked("203.0.113.9", NOW), true);
  assert.equal(lockout.isLocked("203.0.113.8", NOW), false);
  assert.equal(lockout.isLocked("203.0.113.9", NOW + LOCKOUT_MS), false);
});

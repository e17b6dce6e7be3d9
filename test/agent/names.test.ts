import assert from "node:assert/strict";
import { test } from "node:test";
import packet from "dns-packet";
import { CANARIES_MAX } from "../../src/agent/names/canaries.js";
import { RCODE, readQuery } from "../../src/agent/names/message.js";
import { OUTSTANDING_MAX, Resolver } from "../../src/agent/names/resolver.js";
import { tableOf } from "../../src/agent/names/table.js";
import { type Upstreams, upstreamsOf } from "../../src/agent/names/upstreams.js";
import { parseIp } from "../../src/kit/ip.js";
import { readResolvers } from "../../src/netconf/resolvconf.js";
import type { AskOptions, NameService } from "../../src/sys/nameservice.js";
import { systemRandom } from "../../src/sys/random.js";
import { networkMap } from "../../src/wire/map.js";
import { CANARY_ANSWER, CANARY_DOMAIN, mapNames, RECORD_ADDRESSES_MAX } from "../../src/wire/names.js";
import { MAP as RAW } from "./lookupsworld.js";

const map = networkMap.parse({
  ...RAW,
  relays: [{ id: "r", name: "r", url: "https://relay.example:443", relayKey: RAW.peers[0]?.publicKey, stunPort: 0 }],
  names: {
    domain: "home.example",
    records: [
      { name: "nas", addresses: ["192.168.1.9"] },
      { name: "home", addresses: ["192.0.2.1"] },
      { name: "films.media.home.example", addresses: ["192.168.1.10"] },
      { name: "wiki.example.org", addresses: ["100.64.0.1"] },
      { name: "many", addresses: Array.from({ length: RECORD_ADDRESSES_MAX }, (_, i) => `2001:db8::${i + 1}`) },
    ],
    split: [
      { domain: "corp.example", resolvers: ["10.0.0.53"] },
      { domain: "lab.corp.example", resolvers: ["10.0.9.53"] },
      { domain: "sub.home.example", resolvers: ["10.0.7.53"] },
    ],
    resolvers: [],
  },
});
const UP: Upstreams = { servers: [parseIp("100.64.0.1")], way: "tunnel", choice: "exit" };

/** Servers of which the test says who answers, and what. */
class ModelServers implements NameService {
  readonly asked: { server: string; query: Uint8Array; options: AskOptions }[] = [];
  reply: (server: string, query: Uint8Array) => Uint8Array | undefined | Promise<Uint8Array | undefined> = () =>
    undefined;

  async serve(): Promise<never> {
    throw new Error("nobody is served here");
  }

  async ask(server: { address: string }, query: Uint8Array, options: AskOptions): Promise<Uint8Array | undefined> {
    this.asked.push({ server: server.address, query, options });
    const reply = await this.reply(server.address, query);
    return reply !== undefined && options.isReply(reply) ? reply : undefined;
  }
}

const resolverOf = (servers: ModelServers, upstreams = UP): Resolver => {
  const resolver = new Resolver({ service: servers, random: systemRandom });
  resolver.follow({
    table: tableOf(map, ["https://coordinator.example:8443"], [parseIp("192.168.7.1")]),
    upstreams,
    addresses: map.self.addresses,
  });
  return resolver;
};
const queryFor = (name: string, type: packet.RecordType = "A", more: Partial<packet.Packet> = {}): Uint8Array =>
  packet.encode({ type: "query", id: 7, flags: packet.RECURSION_DESIRED, questions: [{ type, name }], ...more });
const answered = (query: Uint8Array, data = "198.51.100.1"): Uint8Array => {
  const { id = 0, questions = [] } = packet.decode(Buffer.from(query));
  const name = questions[0]?.name ?? "";
  return packet.encode({ type: "response", id, questions, answers: [{ type: "A", name, data, ttl: 9 }] });
};

async function asked(name: string, type: packet.RecordType = "A", over: "udp" | "tcp" = "udp") {
  const servers = new ModelServers();
  const reply = await resolverOf(servers).answer(queryFor(name, type), over);
  assert.ok(reply !== undefined);
  const decoded = packet.decode(Buffer.from(reply));
  assert.equal(decoded.id, 7);
  return {
    rcode: (reply[3] ?? 0) & 15,
    data: (decoded.answers ?? []).map((one) => ("data" in one ? String(one.data) : "")),
    servers: servers.asked.map(({ server }) => server),
    cut: decoded.flag_tc,
    reply,
  };
}

for (const { name, type = "A", is, rcode = RCODE.noError } of [
  { name: "laptop.home.example", is: ["100.64.0.7"] },
  { name: "LapTop.Home.EXAMPLE", is: ["100.64.0.7"] },
  { name: "home.home.example", type: "AAAA", is: ["fd7e:1::1"] },
  { name: "home.home.example", is: ["100.64.0.1"] },
  { name: "laptop", is: ["100.64.0.7"] },
  { name: "nas.home.example", is: ["192.168.1.9"] },
  { name: "nas.home.example", type: "AAAA", is: [] },
  { name: "nas.home.example", type: "MX", is: [] },
  { name: "films.media.home.example", is: ["192.168.1.10"] },
  { name: "media.home.example", is: [] },
  { name: "wiki.example.org", is: ["100.64.0.1"] },
  { name: "home.example", is: [] },
  { name: "nobody.home.example", is: [], rcode: RCODE.nameUnknown },
  { name: "x.laptop.home.example", is: [], rcode: RCODE.nameUnknown },
  { name: "1.0.64.100.in-addr.arpa", type: "PTR", is: ["home.home.example"] },
  { name: "9.9.64.100.in-addr.arpa", type: "PTR", is: [], rcode: RCODE.nameUnknown },
  { name: "64.100.in-addr.arpa", type: "NS", is: [] },
  {
    name: `${[..."fd7e0001000000000000000000000007"].reverse().join(".")}.ip6.arpa`,
    type: "PTR",
    is: ["laptop.home.example"],
  },
] as const)
  test(`${type} of ${name} is answered here: ${is.join() || (rcode === RCODE.noError ? "nothing" : "no such name")}`, async () => {
    const got = await asked(name, type);
    assert.deepEqual([got.rcode, got.data, got.servers], [rcode, [...is], []]);
  });

for (const { name, type = "A", server } of [
  { name: "example.com", server: "100.64.0.1" },
  { name: "nothome.example", server: "100.64.0.1" },
  { name: "com", server: "100.64.0.1" },
  { name: "example", server: "100.64.0.1" },
  { name: "1.7.168.192.in-addr.arpa", type: "PTR", server: "100.64.0.1" },
  { name: "100.in-addr.arpa", type: "PTR", server: "100.64.0.1" },
  { name: "git.corp.example", server: "10.0.0.53" },
  { name: "lab.corp.example", server: "10.0.9.53" },
  { name: "a.sub.home.example", server: "10.0.7.53" },
] as const)
  test(`${type} of ${name} is asked of ${server}`, async () => {
    const got = await asked(name, type);
    assert.deepEqual([got.rcode, new Set(got.servers)], [RCODE.serverFailure, new Set([server])]);
  });

test("the coordinator's and the relays' names are asked directly while everything else goes through the tunnel", async () => {
  const servers = new ModelServers();
  servers.reply = (_, query) => answered(query);
  const resolver = resolverOf(servers);
  for (const name of ["coordinator.example", "relay.example", "other.example"])
    await resolver.answer(queryFor(name), "udp");
  assert.deepEqual(
    servers.asked.map(({ server, options }) => [server, options.from]),
    [
      ["192.168.7.1", undefined],
      ["192.168.7.1", undefined],
      ["100.64.0.1", "100.64.0.7"],
    ],
  );
});

test("a question goes on byte for byte under another number, from the tunnel's address, and comes back under its own", async () => {
  const servers = new ModelServers();
  servers.reply = (_, query) => answered(query);
  const query = queryFor("eXample.com", "A", {
    additionals: [
      {
        type: "OPT",
        name: ".",
        udpPayloadSize: 1_400,
        extendedRcode: 0,
        ednsVersion: 0,
        flags: 0,
        flag_do: true,
        options: [],
      },
    ],
  });
  const reply = await resolverOf(servers).answer(query, "tcp");
  assert.equal(packet.decode(Buffer.from(reply ?? [])).id, 7);
  const [once] = servers.asked;
  assert.deepEqual(once?.query.subarray(2), new Uint8Array(query).subarray(2));
  assert.deepEqual([once?.options.over, once?.options.from], ["tcp", "100.64.0.7"]);
});

test("what has another number or another question is no reply", async () => {
  for (const forged of [
    (query: Uint8Array) => answered(Uint8Array.from(query, (byte, i) => (i === 1 ? byte ^ 1 : byte))),
    (query: Uint8Array) => answered(queryFor("evil.example", "A", { id: ((query[0] ?? 0) << 8) | (query[1] ?? 0) })),
    (query: Uint8Array) => query,
  ]) {
    const servers = new ModelServers();
    servers.reply = (_, query) => forged(query);
    const reply = await resolverOf(servers).answer(queryFor("example.com"), "udp");
    assert.equal((reply?.[3] ?? 0) & 15, RCODE.serverFailure);
  }
});

test("a silent resolver is passed by, and the one that answered is asked first from then on, whoever knows a domain", async () => {
  const servers = new ModelServers();
  const [silent = "", good = ""] = ["203.0.113.1", "203.0.113.2"].map(parseIp);
  servers.reply = (server, query) => (server === silent ? undefined : answered(query));
  const resolver = resolverOf(servers, { servers: [silent, good].map(parseIp), way: "direct", choice: undefined });
  await resolver.answer(queryFor("one.example.com"), "udp");
  await resolver.answer(queryFor("git.corp.example"), "udp");
  await resolver.answer(queryFor("two.example.com"), "udp");
  assert.deepEqual(
    servers.asked.map(({ server }) => server),
    [silent, good, "10.0.0.53", good],
  );
  assert.equal(servers.asked[0]?.options.from, undefined);
});

test("through the tunnel nothing is asked of a resolver whose family this device has no address of, and others as often", async () => {
  const servers = new ModelServers();
  const resolver = new Resolver({ service: servers, random: systemRandom });
  const follow = (...addresses: string[]): void => {
    const upstreams: Upstreams = { servers: addresses.map(parseIp), way: "tunnel", choice: "mine-via-exit" };
    const table = tableOf(map, ["https://coordinator.example:8443"], [parseIp("192.168.7.1")]);
    resolver.follow({ table, upstreams, addresses: [parseIp("100.64.0.7")] });
  };
  follow("2001:db8::53");
  const reply = await resolver.answer(queryFor("example.com"), "udp");
  assert.equal((reply?.[3] ?? 0) & 15, RCODE.serverFailure);
  assert.deepEqual(servers.asked, []);
  follow("2001:db8::53", "2001:db8::54", "203.0.113.9");
  await resolver.answer(queryFor("example.com"), "udp");
  assert.equal(servers.asked.length, 4);
});

test(`more than ${OUTSTANDING_MAX} questions at once are refused rather than kept, and answered again afterwards`, async () => {
  const servers = new ModelServers();
  const waiting: (() => void)[] = [];
  servers.reply = (_, query) => new Promise((resolve) => waiting.push(() => resolve(answered(query))));
  const resolver = resolverOf(servers);
  const first = Array.from({ length: OUTSTANDING_MAX }, (_, i) =>
    resolver.answer(queryFor(`q${i}.example.com`), "udp"),
  );
  const over = await resolver.answer(queryFor("over.example.com"), "udp");
  assert.equal((over?.[3] ?? 0) & 15, RCODE.serverFailure);
  assert.equal(
    (await resolver.answer(queryFor("nas.home.example"), "udp"))?.[3],
    0x80,
    "our own names are still answered",
  );
  for (const go of waiting) go();
  await Promise.all(first);
  const again = resolver.answer(queryFor("again.example.com"), "udp");
  waiting.at(-1)?.();
  assert.equal(((await again)?.[3] ?? 0) & 15, RCODE.noError);
});

test("an answer that does not fit a datagram is cut over UDP, and whole over TCP or with EDNS", async () => {
  const cut = await asked("many.home.example", "AAAA");
  assert.deepEqual([cut.cut, cut.data.length], [true, 0]);
  assert.equal((await asked("many.home.example", "AAAA", "tcp")).data.length, RECORD_ADDRESSES_MAX);
  const edns: packet.Answer = {
    type: "OPT",
    name: ".",
    udpPayloadSize: 1_232,
    extendedRcode: 0,
    ednsVersion: 0,
    flags: 0,
    flag_do: false,
    options: [],
  };
  const reply = await resolverOf(new ModelServers()).answer(
    queryFor("many.home.example", "AAAA", { additionals: [edns] }),
    "udp",
  );
  assert.equal(packet.decode(Buffer.from(reply ?? [])).answers?.length, RECORD_ADDRESSES_MAX);
});

test("what is no question gets a format error at most, and never an exception", async () => {
  const resolver = resolverOf(new ModelServers());
  const whole = new Uint8Array(queryFor("example.com"));
  assert.equal(await resolver.answer(new Uint8Array(3), "udp"), undefined);
  assert.equal(await resolver.answer(new Uint8Array(answered(whole)), "udp"), undefined, "an answer is not answered");
  const two = queryFor("a.example", "A", {
    questions: [
      { type: "A", name: "a.example" },
      { type: "A", name: "b.example" },
    ],
  });
  for (const bad of [whole.subarray(0, 14), new Uint8Array(two), new Uint8Array(5_000).fill(1)])
    assert.equal(((await resolver.answer(bad, "udp"))?.[3] ?? 0) & 15, RCODE.formatError);
  for (let seed = 0; seed < 2_000; seed++) {
    const noise = systemRandom(12 + (seed % 60));
    noise.set([0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, seed % 3]);
    await resolver.answer(noise, "udp");
    readQuery(noise);
  }
});

test(`a canary is answered here and remembered by its test, the last ${CANARIES_MAX} of them`, async () => {
  const resolver = resolverOf(new ModelServers());
  const reply = await resolver.answer(queryFor(`udp4.abc.${CANARY_DOMAIN}`), "udp");
  const [found] = packet.decode(Buffer.from(reply ?? [])).answers ?? [];
  assert.equal(found && "data" in found ? found.data : "", CANARY_ANSWER);
  assert.deepEqual(resolver.canaries.under("abc"), ["udp4"]);
  for (let i = 0; i < CANARIES_MAX; i++) await resolver.answer(queryFor(`n${i}.other.${CANARY_DOMAIN}`), "udp");
  assert.deepEqual(resolver.canaries.under("abc"), []);
});

const OWN = ["192.168.7.1", "9.9.9.9"].map(parseIp);
const withExit = (more: object) => networkMap.parse({ ...map, peers: map.peers.map((peer) => ({ ...peer, ...more })) });
for (const { title, at = map, exit = "home", dns, own = OWN, servers, way, choice, note } of [
  { title: "no exit: this network's", exit: null, servers: OWN, way: "direct" },
  { title: "no word: the exit's", servers: ["100.64.0.1"], way: "tunnel", choice: "exit" },
  {
    title: "mine through the exit: those it can reach",
    dns: "mine-via-exit",
    servers: ["9.9.9.9"],
    way: "tunnel",
    choice: "mine-via-exit",
  },
  { title: "mine", dns: "mine", servers: OWN, way: "direct", choice: "mine" },
  {
    title: "mine through the exit where all are private: the exit's, and why",
    dns: "mine-via-exit",
    own: [parseIp("192.168.7.1")],
    servers: ["100.64.0.1"],
    way: "tunnel",
    choice: "exit",
    note: /private addresses, which home cannot ask/,
  },
  {
    title: "an exit without a resolver: mine through it, and why",
    at: withExit({ resolvers: [] }),
    servers: ["9.9.9.9"],
    way: "tunnel",
    choice: "mine-via-exit",
    note: /home has no resolver of its own/,
  },
  {
    title: "a resolver of a family that the exit does not carry is not its",
    at: withExit({ routes: ["0.0.0.0/0"], resolvers: ["fd7e:1::1", "100.64.0.1"] }),
    servers: ["100.64.0.1"],
    way: "tunnel",
    choice: "exit",
  },
  { title: "an exit that is gone: nobody is asked", exit: "gone", servers: [], way: "tunnel", choice: "exit" },
] as const)
  test(`who is asked, ${title}`, () => {
    const got = upstreamsOf(at, { exit: exit ?? undefined, dns }, own);
    assert.deepEqual([got.servers, got.way, got.choice], [[...servers], way, choice]);
    if (note === undefined) assert.equal(got.note, undefined);
    else assert.match(got.note ?? "", note);
  });

test("the network's resolvers stand in for those of the network this device is in", () => {
  const told = networkMap.parse({ ...map, names: { ...map.names, resolvers: ["1.1.1.1"] } });
  assert.deepEqual(upstreamsOf(told, { exit: undefined }, OWN).servers, ["1.1.1.1"]);
  assert.deepEqual(upstreamsOf(told, { exit: "home", dns: "mine-via-exit" }, OWN).servers, ["1.1.1.1"]);
});

test("of a resolv.conf the resolvers that are on other machines are read", () => {
  const text =
    "# made by dhcp\nsearch lan\nnameserver 192.168.7.1\n nameserver\t2001:db8::53 \nnameserver 127.0.0.53\nnameserver ::1\nnameserver nonsense\nnameserver 192.168.7.1\n";
  assert.deepEqual(readResolvers(text), ["192.168.7.1", "2001:db8::53"]);
});

test("a domain is labels in lower case, and never a single one", () => {
  const names = { domain: "home.example", records: [], split: [], resolvers: [] };
  assert.equal(mapNames.safeParse(names).success, true);
  for (const domain of ["com", "Home.example", "home..example", "-a.example", `${"a.".repeat(100)}example`, ""])
    assert.equal(mapNames.safeParse({ ...names, domain }).success, false, domain);
});

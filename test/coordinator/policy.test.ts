import assert from "node:assert/strict";
import { test } from "node:test";
import type { Device } from "../../src/coordinator/device.js";
import { parsePolicy } from "../../src/coordinator/policy/parse.js";
import { DEFAULT_POLICY, DEFAULT_POLICY_TEXT, type Policy } from "../../src/coordinator/policy/policy.js";
import { preview } from "../../src/coordinator/policy/preview.js";
import { runTests } from "../../src/coordinator/policy/trial.js";
import { Visibility } from "../../src/coordinator/visibility.js";
import { utf8 } from "../../src/kit/bytes.js";
import { hash } from "../../src/kit/crypto.js";
import type { Failure } from "../../src/kit/failure.js";
import { type Cidr, cidrContains, type Ip } from "../../src/kit/ip.js";
import { keyOf } from "../../src/kit/key.js";
import type { FilterRule } from "../../src/wire/map.js";

const NOW = 1_000;
const ranges = ["100.64.0.0/10", "fd01::/48"] as Cidr[];
let made = 0;

function device(name: string, more: Partial<Device> = {}): Device {
  made++;
  const key = keyOf(hash(utf8(name)));
  return {
    id: `d-${name}`,
    name,
    wantedName: name,
    role: "device",
    machineKey: key,
    publicKey: key,
    ipv4: `100.64.${made >> 8}.${made & 255}` as Ip,
    ipv6: `fd01::${made.toString(16)}` as Ip,
    report: { endpoints: [], routes: [], resolvers: [] },
    agentVersion: "0",
    createdAtMs: 0,
    tags: [],
    ephemeral: false,
    approvedAtMs: 0,
    approvedRoutes: [],
    ...more,
  };
}

const reporting = (...routes: string[]): Device["report"] => ({
  endpoints: [],
  routes: routes as Cidr[],
  resolvers: ["192.168.1.1" as Ip],
});
const exitNode = (name: string, more: Partial<Device> = {}): Device =>
  device(name, { role: "exit-node", report: reporting("0.0.0.0/0", "::/0"), ...more });

const users = new Map([
  ["u1", { login: "alice", role: "owner" }],
  ["u2", { login: "bob@example.com", role: "member" }],
]);
const home = exitNode("home");
const cabin = exitNode("cabin", { tags: ["cabin"] });
const laptop = device("laptop", { userId: "u1" });
const phone = device("phone", { userId: "u1" });
const bobs = device("bobs", { userId: "u2" });
const server = device("server", { tags: ["server"] });
const router = device("router", {
  tags: ["router"],
  report: reporting("192.168.9.0/24", "10.5.0.0/16", "100.64.0.0/16"),
  approvedRoutes: ["10.5.0.0/16"] as Cidr[],
});
const nobodys = device("nobodys");
const everyone = [home, cabin, laptop, phone, bobs, server, router, nobodys];

function visible(policy: Policy, devices: readonly Device[] = everyone): Visibility {
  const map = new Map(devices.map((one) => [one.id, one]));
  return new Visibility({ devices: map, users, ranges, wall: () => NOW }, policy);
}
const names = (devices: readonly Device[]): string[] => devices.map(({ name }) => name).sort();

/** Whether a filter lets this through: the rules in the words of the wire, and no nftables. */
function lets(rules: readonly FilterRule[], from: Ip, to: string, protocol: string, port = 0): boolean {
  const holds = (list: readonly Cidr[], ip: string): boolean => list.some((one) => cidrContains(one, ip as Ip));
  return rules.some(
    (rule) =>
      holds(rule.from, from) &&
      holds(rule.to, to) &&
      (rule.protocol === "any" || rule.protocol === protocol) &&
      (rule.ports === undefined || rule.ports.some(([first, last]) => first <= port && port <= last)),
  );
}

const failureOf = (text: string): Failure => {
  try {
    parsePolicy(text);
  } catch (error) {
    return error as Failure;
  }
  return assert.fail("the policy was taken");
};

test("without a policy, people's devices reach their own, everyone uses the exits, and nobody the LAN", () => {
  const all = visible(DEFAULT_POLICY);
  assert.deepEqual(names(all.peersOf(laptop)), ["cabin", "home", "phone"]);
  assert.deepEqual(names(all.peersOf(bobs)), ["cabin", "home"]);
  assert.deepEqual(names(all.peersOf(nobodys)), ["cabin", "home"]);
  assert.deepEqual(names(all.peersOf(server)), ["cabin", "home"]);
  assert.deepEqual(all.routesFor(bobs, home), ["0.0.0.0/0", "::/0"]);
  assert.deepEqual(all.routesFor(bobs, router), []);
  assert.equal(lets(all.filterOf(laptop), phone.ipv4, laptop.ipv4, "tcp", 22), true);
  assert.equal(lets(all.filterOf(laptop), phone.ipv6, laptop.ipv6, "tcp", 22), true);
  assert.equal(lets(all.filterOf(laptop), bobs.ipv4, laptop.ipv4, "tcp", 22), false);
  assert.equal(lets(all.filterOf(laptop), home.ipv4, laptop.ipv4, "tcp", 22), false);
  assert.equal(lets(all.filterOf(home), bobs.ipv4, "8.8.8.8", "tcp", 443), true);
  assert.equal(lets(all.filterOf(router), laptop.ipv4, "10.5.0.1", "tcp", 443), false);
});

test("devices of nobody count as one person's, and an exit node of nobody's asks for nothing", () => {
  const another = device("another");
  const all = visible(DEFAULT_POLICY, [...everyone, another]);
  assert.deepEqual(names(all.peersOf(nobodys)), ["another", "cabin", "home"]);
  assert.equal(lets(all.filterOf(another), nobodys.ipv4, another.ipv4, "tcp", 22), true);
  assert.equal(lets(all.filterOf(another), home.ipv4, another.ipv4, "tcp", 22), false);
});

test("the text of the default policy says the default policy", () => {
  assert.deepEqual(parsePolicy(DEFAULT_POLICY_TEXT), DEFAULT_POLICY);
});

const FAMILY = `
groups:
  group:family: [alice, bob@example.com]
tagOwners:
  tag:server: [group:family]
  tag:router: []
  tag:cabin: []
hosts:
  lan: 192.168.9.0/24
  printer: 10.5.0.7
grants:
  - src: [group:family]
    dst: [tag:server]
    ip: [tcp:22, "tcp:8000-8100", icmp]
  - src: [alice]
    dst: [printer]
    ip: [631]
  - src: [bob@example.com]
    dst: [autogroup:internet]
    via: [tag:cabin]
  - src: ["*"]
    dst: [autogroup:self]
autoApprovers:
  routes:
    192.168.0.0/16: [tag:router]
tests:
  - src: alice
    accept: [tag:server:22, printer:631, alice:80]
    deny: [tag:server:23, "autogroup:internet:443"]
  - src: bob@example.com
    via: [tag:cabin]
    accept: ["autogroup:internet:443"]
  - src: bob@example.com
    via: [home]
    deny: ["autogroup:internet:443"]
`;

test("YAML and JSON with comments and trailing commas say the same policy", () => {
  const json = `// who may
{
	"groups": {"group:family": ["alice", "bob@example.com",],}, /* "all" of us */
  "tagOwners": {"tag:server": ["group:family"], "tag:router": [], "tag:cabin": []},
  "hosts": {"lan": "192.168.9.0/24", "printer": "10.5.0.7"},
  "grants": [
    {"src": ["group:family"], "dst": ["tag:server"], "ip": ["tcp:22", "tcp:8000-8100", "icmp"]},
    {"src": ["alice"], "dst": ["printer"], "ip": ["631"]},
    {"src": ["bob@example.com"], "dst": ["autogroup:internet"], "via": ["tag:cabin"]}, // far away
    {"src": ["*"], "dst": ["autogroup:self"]},
  ],
  "autoApprovers": {"routes": {"192.168.0.0/16": ["tag:router"]}},
}`;
  const { tests: _, ...yaml } = parsePolicy(FAMILY);
  const { tests: __, ...other } = parsePolicy(json);
  assert.deepEqual(other, yaml);
});

test("a policy is compiled into filters, peers and routes of each device", () => {
  const family = visible(parsePolicy(FAMILY));
  const atServer = family.filterOf(server);
  assert.equal(lets(atServer, laptop.ipv4, server.ipv4, "tcp", 22), true);
  assert.equal(lets(atServer, bobs.ipv6, server.ipv6, "tcp", 8_050), true);
  assert.equal(lets(atServer, laptop.ipv4, server.ipv4, "udp", 22), false);
  assert.equal(lets(atServer, laptop.ipv4, server.ipv4, "icmp"), true);
  assert.equal(lets(atServer, nobodys.ipv4, server.ipv4, "tcp", 22), false);
  assert.deepEqual(names(family.peersOf(bobs)), ["cabin", "server"]);
  assert.deepEqual(names(family.peersOf(laptop)), ["phone", "router", "server"]);
  assert.equal(family.mayKnow(laptop, bobs), false);
  const atRouter = family.filterOf(router);
  assert.equal(lets(atRouter, laptop.ipv4, "10.5.0.7", "tcp", 631), true);
  assert.equal(lets(atRouter, laptop.ipv4, "10.5.0.8", "tcp", 631), false);
  assert.equal(lets(atRouter, laptop.ipv4, router.ipv4, "tcp", 631), false);
});

test("an exit node that somebody may not use gives them no default route, and its filter drops them", () => {
  const family = visible(parsePolicy(FAMILY));
  assert.deepEqual(family.routesFor(bobs, cabin), ["0.0.0.0/0", "::/0"]);
  assert.deepEqual(family.routesFor(bobs, home), []);
  const atCabin = family.filterOf(cabin);
  assert.equal(lets(atCabin, bobs.ipv4, "8.8.8.8", "tcp", 443), true);
  assert.equal(lets(atCabin, bobs.ipv6, "2a00::1", "tcp", 443), true);
  assert.equal(lets(atCabin, bobs.ipv4, "192.168.1.5", "tcp", 443), false);
  assert.equal(lets(atCabin, bobs.ipv4, "192.168.1.1", "udp", 53), true);
  assert.equal(lets(atCabin, bobs.ipv4, cabin.ipv4, "icmp"), true);
  assert.equal(lets(atCabin, bobs.ipv4, cabin.ipv4, "tcp", 22), false);
  assert.equal(lets(family.filterOf(home), bobs.ipv4, "8.8.8.8", "tcp", 443), false);
  assert.ok(atCabin.some(({ routed }) => routed));
});

test("routes are approved by an administrator or the policy, never one of the network's own range", () => {
  const family = visible(parsePolicy(FAMILY));
  assert.deepEqual(family.routesOf(router), ["10.5.0.0/16", "192.168.9.0/24"]);
  assert.deepEqual(family.routesFor(laptop, router), ["10.5.0.0/16"]);
  assert.deepEqual(visible(DEFAULT_POLICY).routesOf(router), ["10.5.0.0/16"]);
});

test("a device's name gives rights to nobody's devices alone, for people may rename theirs", () => {
  const named = visible(parsePolicy("grants: [{ src: [device:nobodys, device:bobs], dst: [device:phone] }]"));
  assert.deepEqual(names(named.peersOf(phone)), ["nobodys"]);
});

test("the policy's own tests are run against people and tags, whether or not they have devices", () => {
  const policy = parsePolicy(FAMILY);
  const all = visible(policy, []);
  const world = { access: all.over(policy), users, idByName: new Map() };
  assert.deepEqual(runTests(policy, world), []);
  const wrong = parsePolicy(FAMILY.replace("tag:server:23", "tag:server:22"));
  assert.deepEqual(
    runTests(wrong, world).map(({ message }) => message),
    ["alice reaches tag:server:22 (tcp), which the test denies"],
  );
});

for (const { what, text, expected } of [
  {
    what: "an undefined group, with the one that was meant",
    text: `groups:\n  group:family: [alice]\ngrants:\n  - src: ["*"]\n    dst:\n      - group:famly\n`,
    expected: "line 6, grants[0].dst[0]: group:famly is not defined; did you mean group:family?",
  },
  {
    what: "an unknown key",
    text: `grants:\n  - src: ["*"]\n    dst: ["*"]\n    ports: [22]\n`,
    expected: "line 4, grants[0].ports: there is no such key here",
  },
  {
    what: "a star that YAML takes for an alias",
    text: `grants:\n  - src: [*]\n    dst: [autogroup:self]\n`,
    expected: 'line 2: a star is written in quotes: "*"',
  },
  {
    what: "a port that is none",
    text: `{\n"grants": [\n{"src": ["*"],\n"dst": ["*"],\n// twenty-two\n"ip": ["tcp:99999"]}]}`,
    expected:
      'line 6, grants[0].ip[0]: expected "*", icmp, tcp:22, udp:5000-5010, tcp, or 443 for both tcp and udp, got "tcp:99999"',
  },
  {
    what: "a destination as a source",
    text: `grants:\n  - src: [autogroup:internet]\n    dst: ["*"]\n`,
    expected: "line 2, grants[0].src[0]: autogroup:internet is a destination, and cannot be where something comes from",
  },
  {
    what: "an undefined tag",
    text: `grants:\n  - src: [tag:web]\n    dst: ["*"]\n`,
    expected: "line 2, grants[0].src[0]: tag:web is not defined; add it to tagOwners",
  },
  {
    what: "text that is no object",
    text: "just words",
    expected: "line 1: invalid input: expected object, received string",
  },
])
  test(`errors name line and rule: ${what}`, () => {
    const failure = failureOf(text);
    assert.equal(failure.code, "policy-invalid");
    assert.equal(failure.message.split("\n")[0], expected);
  });

test("a policy that is too long, too nested or full of aliases is refused at once", () => {
  assert.match(failureOf(`# ${"x".repeat(60_000)}`).message, /at most 49152/);
  for (const deep of ["[", "{a: ", "- ", "? "]) assert.match(failureOf(deep.repeat(10_000)).message, /deeper/);
  const staircase = Array.from({ length: 300 }, (_, i) => `${" ".repeat(i)}a:`).join("\n");
  assert.match(failureOf(staircase).message, /deeper/);
  failureOf("a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b]\n");
});

test("whatever is done to a policy's text, it is a policy or refused with a line", () => {
  let seed = 7;
  const chance = (below: number): number => {
    seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
    return seed % below;
  };
  const pieces = [...'[]{}:,-*&!|>#"\n\t', "grants", "- ", "group:", "tag:x", "0.0.0.0/0", "__proto__", "\u0000", "é"];
  for (let round = 0; round < 1_500; round++) {
    let text =
      round % 2 === 0 ? FAMILY : JSON.stringify({ grants: [{ src: ["*"], dst: ["autogroup:self"] }] }, null, 1);
    for (let edits = 1 + chance(4); edits > 0; edits--) {
      const at = chance(text.length);
      text = text.slice(0, at) + (pieces[chance(pieces.length)] ?? "") + text.slice(at + chance(12));
    }
    try {
      parsePolicy(text);
    } catch (error) {
      assert.equal((error as Failure).code, "policy-invalid", `${String(error)} of ${text}`);
      assert.match((error as Failure).message, /^line \d+/);
    }
  }
});

test("the preview tells who gains and who loses what, and nothing of what stays", () => {
  const all = visible(DEFAULT_POLICY);
  const found = preview(everyone, all.over(DEFAULT_POLICY), all.over(parsePolicy(FAMILY)), NOW);
  const told = found.changes.map(({ device, at, gains, loses }) => [device, at, gains.join(), loses.join()]);
  assert.deepEqual(
    told.filter(([who, at]) => who === "bobs" && at !== "cabin"),
    [
      ["bobs", "home", "", "the Internet through home,the networks behind it through home"],
      ["bobs", "server", "icmp on server,tcp:22 on server,tcp:8000-8100 on server", ""],
    ],
  );
  assert.deepEqual(
    told.filter(([who, at]) => who === "phone" && at === "laptop"),
    [],
  );
  assert.deepEqual(preview(everyone, all.over(DEFAULT_POLICY), all.over(DEFAULT_POLICY), NOW).changes, []);
});

test("10,000 devices that know twenty each: a question costs what its answer is long", () => {
  const owners = new Map(Array.from({ length: 1_000 }, (_, i) => [`o${i}`, { login: `p${i}`, role: "member" }]));
  const crowd = new Map<string, Device>([[home.id, home]]);
  for (let i = 0; i < 10_000; i++) {
    const one = device(`c${i}`, { userId: `o${i % 1_000}` });
    crowd.set(one.id, one);
  }
  const all = new Visibility({ devices: crowd, users: owners, ranges, wall: () => NOW });
  const some = crowd.get("d-c5") ?? assert.fail();
  assert.equal(all.peersOf(some).length, 10);
  const startedAt = process.cpuUsage().user;
  for (let i = 0; i < 200; i++) {
    crowd.set(some.id, { ...some, agentVersion: `${i}` });
    all.peersOf(crowd.get(some.id) ?? some);
  }
  const each = (process.cpuUsage().user - startedAt) / 200 / 1_000;
  assert.ok(each < 5, `${each.toFixed(2)} ms of processor for a change and its peers`);
  // An exit node for all of them is a rule of two prefixes.
  assert.ok(JSON.stringify(all.filterOf(home)).length < 2_000);
});

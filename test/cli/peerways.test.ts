import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import type { Call } from "../../src/cli/command.js";
import { describeNetcheck } from "../../src/cli/netcheck.js";
import { pathsFrom } from "../../src/cli/paths.js";
import { ping, TRIES } from "../../src/cli/ping.js";
import { describeDevice } from "../../src/cli/status.js";
import { localExec } from "../../src/sys/exec.js";
import { localFiles } from "../../src/sys/files.js";
import { serveLines } from "../../src/sys/localsocket.js";
import { systemRandom } from "../../src/sys/random.js";
import { DEVICE_FILES } from "../../src/wire/agentconfig.js";
import type { AgentStatus, NetcheckAnswer, PingAnswer } from "../../src/wire/agentsocket.js";

/** How the ways to peers are told, and `ping` against an agent's socket with answers made up here. */

const folder = mkdtempSync(join(tmpdir(), "exn-ways-"));
after(() => rmSync(folder, { recursive: true, force: true }));

const WHY = {
  words: "both NATs change the port per destination",
  help: "forward the WireGuard port on one side's router, or turn on UPnP, NAT-PMP or PCP there",
};
/** What is folded to fit a terminal, as one line again. */
const unfolded = (text: string): string => text.replace(/\n +/g, " ");
const direct: PingAnswer = { peer: "home", path: "direct", endpoint: "203.0.113.77:51820", roundTripMs: 12.34 };
const relayed: PingAnswer = { peer: "home", path: "relayed", relay: "vps", roundTripMs: 20, why: WHY };
const { roundTripMs: _, ...silent } = relayed;

/** Answers one after the other, the last one for ever; and a clock on which sleeping takes no time. */
async function pingWith(answers: readonly PingAnswer[], options: Call["options"] = {}) {
  let asked = 0;
  const stop = await serveLines(join(folder, DEVICE_FILES.socket), 0o600, async () => ({
    ok: true,
    value: answers[Math.min(asked++, answers.length - 1)],
  }));
  const said: string[] = [];
  let now = 0;
  const outcome = await ping({
    args: ["home"],
    options,
    json: false,
    signal: new AbortController().signal,
    parts: {
      env: {},
      paths: pathsFrom({ EXITNODE_RUN: folder }, folder),
      exec: localExec,
      files: localFiles,
      clock: {
        now: () => now,
        wall: () => now,
        sleep: async (duration) => {
          now += duration;
        },
      },
      random: systemRandom,
      say: (line) => said.push(line),
      interactive: false,
    },
  }).finally(stop);
  return { ...outcome, value: outcome.value as Record<string, unknown>, said, asked };
}

test("ping shows the path of every reply and ends when one comes directly", async () => {
  const { said, text, value } = await pingWith([relayed, relayed, direct]);
  assert.deepEqual(said, [
    "home: 20.0 ms, relayed through vps",
    "home: 20.0 ms, relayed through vps",
    "home: 12.3 ms, direct to 203.0.113.77:51820",
  ]);
  assert.equal(text, "home is direct to 203.0.113.77:51820");
  assert.equal(value.directAfterMs, 2_000);
});

test("a peer that stays relayed is a success, with the reason and what would help as the last words", async () => {
  const { text, value, asked } = await pingWith([silent, relayed]);
  assert.equal(asked, TRIES);
  const lost = `1 of ${TRIES} tries got no reply`;
  assert.equal(unfolded(text), `home is relayed through vps; ${lost} ${WHY.words} → ${WHY.help}`);
  assert.deepEqual(value.why, WHY);
});

test("--count goes on after the path is direct, and takes only numbers in bounds", async () => {
  assert.equal((await pingWith([direct], { count: "4" })).asked, 4);
  for (const count of ["0", "-1", "many", "10001"])
    await assert.rejects(pingWith([direct], { count }), { code: "usage" }, count);
});

test("a peer that never replies is a failure that says why and what would help", async () => {
  await assert.rejects(pingWith([silent]), {
    code: "peer-silent",
    message: `home gave no reply in ${TRIES} tries: ${WHY.words}`,
    advice: WHY.help,
  });
});

const peer: AgentStatus["peers"][number] = {
  name: "home",
  role: "exit-node",
  addresses: ["100.64.0.1" as AgentStatus["addresses"][number]],
  online: true,
  path: "searching",
  receivedBytes: 0,
  sentBytes: 0,
};
const own: AgentStatus = {
  version: "0.1.0",
  name: "laptop",
  role: "device",
  addresses: [],
  dataPlane: "userspace",
  interface: "exn0",
  listenPort: 51820,
  coordinator: { url: "https://192.0.2.22", connected: true },
  peers: [],
  warnings: [],
};
const told = (...peers: readonly Partial<typeof peer>[]): string =>
  describeDevice({ ...own, peers: peers.map((one) => ({ ...peer, ...one })) });

test("status says of each peer the path and, when relayed, why and what would help", () => {
  assert.match(told(direct), /home +exit-node +100\.64\.0\.1 +direct, 12\.3 ms/);
  assert.match(told(direct), /^home {2}direct to 203\.0\.113\.77:51820$/m);
  assert.match(told(relayed), / through vps /);
  assert.ok(unfolded(told(relayed)).endsWith(`\n\nhome  relayed through vps ${WHY.words} → ${WHY.help}`));
  assert.match(told({ ...relayed, online: false }), / offline /);
  assert.doesNotMatch(told({ ...relayed, online: false }), /both NATs/);
});

test("a peer that nothing was sent to is idle; once something was, status tells how it goes until a way is found", () => {
  assert.match(told({ relay: "vps" }), / idle +never /);
  assert.match(told({ relay: "vps", sentBytes: 148 }), /^home {2}looking for a direct way, through vps meanwhile$/m);
});

test("of a peer that leaves unanswered what it is sent, status tells when it was last heard, offline or not", () => {
  const silent = { sentBytes: 148, silentMs: 42_000 };
  assert.match(told(silent), /^home {2}looking for a way\n {6}no answer: last heard 42\.0 s ago$/m);
  assert.match(told({ ...silent, online: false }), /^home {2}no answer: last heard 42\.0 s ago$/m);
  const exit = { name: "home", ipv4: true, ipv6: false, state: "waiting" as const };
  const lost = describeDevice({ ...own, exit, peers: [{ ...peer, ...silent }] });
  assert.match(unfolded(lost), /^exit node +home \(waiting; IPv4 only\) last heard 42\.0 s ago; until it answers/m);
});

test("a direct path is shown also of a peer that the coordinator has not heard of lately", () => {
  assert.match(told({ ...direct, online: false }), /direct, 12\.3 ms/);
});

test("what could not be sent is shown with its reason, and nothing is shown while there is none", () => {
  const shown = (looped: number, refused: number): string => describeDevice({ ...own, unsent: { looped, refused } });
  assert.match(shown(0, 7), /^not sent +7 datagrams, which this machine refused/m);
  assert.match(shown(3, 0), /^not sent +3 datagrams of the tunnel's own/m);
  assert.doesNotMatch(shown(0, 0), /not sent/);
});

test("two peers with direct IPv6 paths and long names fit into 100 columns", () => {
  const { name, ...rest } = peer;
  const long = {
    ...rest,
    path: "direct" as const,
    endpoint: "[2001:db8:77:1:be24:11ff:fe00:22]:51820",
    roundTripMs: 9.5,
  };
  const text = told({ ...long, name: "living-room-server", receivedBytes: 1e9, sentBytes: 999e6 }, { ...long, name });
  for (const line of text.split("\n")) assert.ok(line.length <= 100, line);
});

const open: NetcheckAnswer = {
  udp: true,
  ipv4: "198.51.100.88:51820",
  nat: {
    is: "endpoint-independent mapping, the port is kept",
    means: "direct paths work with nearly every other network",
  },
  portmap: { pcp: "mapped", natpmp: "offered", upnp: "absent", endpoint: "198.51.100.88:4711", why: [] },
  relays: [{ name: "vps", url: "https://192.0.2.22", home: true, state: "connected", roundTripMs: 8 }],
  captivePortal: false,
};

test("no line of a screen is wider than a terminal but for a table's and an address's sake", () => {
  const nat = { is: "address-and-port-dependent mapping, ports without a pattern", means: `${WHY.words}, `.repeat(4) };
  const { peers: _peers, ...rest } = own;
  const screens = [
    describeDevice({ ...rest, nat, peers: [{ ...peer, ...relayed }] }),
    describeNetcheck({ ...open, nat }),
  ];
  for (const line of screens.join("\n").split("\n")) assert.ok(line.length <= 80, `${line.length}: ${line}`);
});

test("netcheck tells every finding, and a thing not known is not told as absent", () => {
  const text = describeNetcheck(open);
  for (const found of [
    /^UDP +gets out$/m,
    /^IPv4 +198\.51\.100\.88:51820/m,
    /^IPv6 +unknown: no relay answered this way$/m,
    /^NAT +endpoint-independent mapping/m,
    /^port mapping +PCP mapped, NAT-PMP offered, UPnP absent\n +198\.51\.100\.88:4711 leads here/m,
    /^captive portal +no$/m,
    /^vps +connected, home +8\.0 ms +https:\/\/192\.0\.2\.22$/m,
  ])
    assert.match(text, found);
  const { udp: _udp, ipv4: _ipv4, nat: _nat, captivePortal: _portal, ...unknown } = open;
  const dark = describeNetcheck({ ...unknown, relays: [] });
  for (const found of [/^UDP +unknown/m, /^IPv4 +unknown$/m, /^captive portal +unknown/m, /^no relay is known/m])
    assert.match(dark, found);
  assert.match(describeNetcheck(unknown), /^UDP +unknown: no relay answers, over TCP neither$/m);
  assert.match(describeNetcheck({ ...unknown, udp: false }), /^UDP +is blocked/m);
  assert.match(describeNetcheck({ ...open, captivePortal: true }), /log in with a browser/);
  const forward = (leads: "untried" | "here" | "elsewhere") =>
    describeNetcheck({ ...open, forward: { endpoint: "203.0.113.7:51820", leads } });
  assert.match(forward("here"), /^forward +203\.0\.113\.7:51820 leads here; a relay proved it$/m);
  assert.match(forward("elsewhere"), /^forward +203\.0\.113\.7:51820 does not lead here\n +the router forwards/m);
  assert.match(forward("untried"), /^forward +203\.0\.113\.7:51820, not proven/m);
  for (const line of forward("elsewhere").split("\n")) assert.ok(line.length <= 80, line);
});

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, describe, test } from "node:test";
import type { Call } from "../../src/cli/command.js";
import { doctor } from "../../src/cli/doctoraction.js";
import type { Trouble } from "../../src/cli/doctorreport.js";
import { pathsFrom } from "../../src/cli/paths.js";
import { SECOND } from "../../src/kit/time.js";
import { DNS_TABLE } from "../../src/netconf/clientdns.js";
import { type Clock, systemClock } from "../../src/sys/clock.js";
import { type Exec, localExec, mustRun } from "../../src/sys/exec.js";
import { localFiles } from "../../src/sys/files.js";
import { serveLines } from "../../src/sys/localsocket.js";
import { systemRandom } from "../../src/sys/random.js";
import { DEVICE_FILES } from "../../src/wire/agentconfig.js";
import type { AgentStatus, NetcheckAnswer } from "../../src/wire/agentsocket.js";
import { roomMissing } from "../provision/room.js";
import { startFakeHost } from "../pve/fakehost.js";
import { patientClock } from "./doctorworld.js";

/**
 * This machine as a device: routes, rules, filters and packets are real, in two namespaces with a tunnel's two ends;
 * the agent is one that says what the test wants.
 */
const HERE = "exn-d-here";
const EXIT = "exn-d-exit";
const KEY = `${"A".repeat(43)}=`;

const PEER: AgentStatus["peers"][number] = {
  name: "home",
  role: "exit-node",
  addresses: ["100.64.0.1" as never],
  online: true,
  path: "direct",
  endpoint: "203.0.113.77:51820",
  roundTripMs: 9,
  receivedBytes: 1,
  sentBytes: 1,
};
const STATUS: AgentStatus = {
  version: "0.1.0",
  name: "laptop",
  role: "device",
  addresses: ["100.64.0.2" as never],
  dataPlane: "kernel",
  interface: "exn0",
  listenPort: 51_820,
  mtu: 1280,
  coordinator: { url: "https://127.0.0.1:1", connected: true, mapSeq: 4, mapAgeMs: 1_000 },
  exit: { name: "home", ipv4: true, ipv6: false, state: "active" },
  peers: [PEER],
  warnings: [],
};
const NETCHECK: NetcheckAnswer = {
  udp: true,
  portmap: { pcp: "absent", natpmp: "absent", upnp: "absent", why: [] },
  relays: [{ name: "vps", url: "https://192.0.2.22", home: true, state: "connected", roundTripMs: 8 }],
  captivePortal: false,
};

type Situation = {
  readonly status?: Partial<AgentStatus> | "down" | "silent";
  readonly netcheck?: Partial<NetcheckAnswer>;
  /** Run after the namespaces are as they should be. */
  readonly broken?: readonly string[];
  readonly whoami?: string;
  readonly serverDate?: Date;
  readonly coordinator?: string;
};

let folder: string;
let server: Server;
let date: Date | undefined;
const open: (() => Promise<void>)[] = [];

const HEALTHY = [
  `ip netns add ${HERE}; ip netns add ${EXIT}`,
  `ip -n ${HERE} link set lo up; ip -n ${EXIT} link set lo up`,
  `ip -n ${HERE} link add exn0 type veth peer name exn0 netns ${EXIT}`,
  `ip -n ${HERE} link add wlan0 type veth peer name wlan0 netns ${EXIT}`,
  ...[HERE, EXIT].flatMap((at) => ["exn0", "wlan0"].map((dev) => `ip -n ${at} link set ${dev} up`)),
  `ip -n ${HERE} address add 100.64.0.2/24 dev exn0; ip -n ${EXIT} address add 100.64.0.1/24 dev exn0`,
  `ip -n ${HERE} address add 192.168.1.2/24 dev wlan0; ip -n ${HERE} route add default via 192.168.1.1`,
  `ip -n ${HERE} address add fd00::2/64 dev wlan0 nodad; ip -n ${HERE} -6 route add default via fd00::1`,
  `ip -n ${HERE} route add default dev exn0 table 5182; ip -n ${HERE} -6 route add default dev exn0 table 5182`,
  `ip -n ${HERE} rule add pref 5350 lookup 5182; ip -n ${HERE} -6 rule add pref 5350 lookup 5182`,
  `ip netns exec ${HERE} nft add table inet ${DNS_TABLE}`,
  `ip netns exec ${HERE} sysctl -qw net.ipv4.conf.all.rp_filter=2`,
];
const gone = async (): Promise<void> => {
  for (const name of [HERE, EXIT]) await localExec.run(["ip", "netns", "del", name]);
};
const shell = (lines: readonly string[]) => mustRun(localExec, ["sh", "-ec", lines.join("\n")]);
const inHere: Exec = { run: (argv, options) => localExec.run(["ip", "netns", "exec", HERE, ...argv], options) };

async function examine(situation: Situation): Promise<readonly Trouble[]> {
  const { status = {}, netcheck = {}, broken = [], coordinator = "https://127.0.0.1:1" } = situation;
  await gone();
  await shell([...HEALTHY, ...broken]);
  date = situation.serverDate;
  if (status !== "down") {
    const answers: Record<string, unknown> = {
      status: status === "silent" ? undefined : { ...STATUS, ...status },
      netcheck: { ...NETCHECK, ...netcheck },
      whoami: { ipv4: "198.51.100.7" },
    };
    open.push(
      await serveLines(join(folder, DEVICE_FILES.socket), 0o600, (asked) => {
        const value = answers[(asked as { do: string }).do];
        return value === undefined ? new Promise(() => undefined) : Promise.resolve({ ok: true, value });
      }),
    );
  }
  const config = { name: "laptop", role: "device", coordinator: { urls: [coordinator], publicKey: KEY } };
  await localFiles.write(join(folder, DEVICE_FILES.config), JSON.stringify(config));
  const { port } = server.address() as AddressInfo;
  // The end of a look is near; that of all looks is not.
  const hurried: Clock = {
    ...systemClock,
    sleep: (ms, signal) => systemClock.sleep(ms > 5 * SECOND ? ms : ms / 50, signal),
  };
  const call: Call = {
    args: [],
    options: {},
    json: false,
    signal: new AbortController().signal,
    parts: {
      env: { EXITNODE_WHOAMI: situation.whoami ?? `http://localhost:${port}` },
      paths: pathsFrom(
        { EXITNODE_CONFIG: folder, EXITNODE_ETC: folder, EXITNODE_RUN: folder, EXITNODE_VAR: folder },
        ".",
      ),
      exec: inHere,
      files: localFiles,
      clock: status === "silent" ? hurried : patientClock,
      random: systemRandom,
      say: () => {},
      interactive: false,
    },
  };
  const outcome = await doctor(call);
  assert.equal(
    outcome.exitCode,
    (outcome.value as Trouble[]).some(({ severity }) => severity === "stops") ? 1 : undefined,
  );
  return outcome.value as Trouble[];
}

type Row = Situation & {
  readonly title: string;
  readonly is: "stops" | "warns";
  readonly says: RegExp;
  /** It is the first of all that is said. */
  readonly first?: true;
};

const offline = { coordinator: { connected: false, reason: "no answer", mapSeq: 4, mapAgeMs: 60_000 } } as const;
const relayed = {
  ...PEER,
  path: "relayed",
  relay: "vps",
  why: { words: "both NATs are hard", help: "forward udp/51820" },
} as const;

const rows: readonly Row[] = [
  {
    title: "an agent that does not run",
    status: "down",
    is: "stops",
    says: /its agent does not run\n.*\nexitnode up$/,
    first: true,
  },
  {
    title: "an agent that does not answer",
    status: "silent",
    is: "stops",
    says: /the agent did not answer within 5\.0 s/,
    first: true,
  },
  {
    title: "a network that wants a login",
    netcheck: { captivePortal: true },
    status: offline,
    is: "stops",
    says: /wants a login first.*exitnode use none.*with a browser/s,
    first: true,
  },
  {
    title: "a clock that is an hour behind",
    serverDate: new Date(Date.now() + 3_600_000),
    is: "stops",
    says: /this machine's clock is 3\d{3} s behind.*timedatectl set-ntp true/s,
    first: true,
  },
  {
    title: "no network at all",
    broken: [
      `ip -n ${HERE} route del default; ip -n ${HERE} -6 route del default`,
      `ip -n ${HERE} route flush table 5182; ip -n ${HERE} -6 route flush table 5182`,
    ],
    is: "stops",
    says: /no route to the Internet/,
    first: true,
  },
  {
    title: "Tailscale's rules before ours",
    broken: [`ip -n ${HERE} rule add pref 5270 lookup 52`],
    is: "warns",
    says: /Tailscale decides before exitnode.*rule 5270, table 52.*tailscale down/s,
  },
  {
    title: "somebody's rules before ours",
    broken: [`ip -n ${HERE} -6 rule add pref 100 lookup 77`],
    is: "warns",
    says: /another program decides.*rule 100, table 77.*ip rule; ip -6 rule/s,
  },
  {
    title: "IPv4 that leaves beside the exit",
    broken: [`ip -n ${HERE} rule del pref 5350`],
    is: "stops",
    says: /IPv4 leaves by wlan0, beside the exit node.*exitnode use none && exitnode use home/s,
    first: true,
  },
  {
    title: "IPv6 that leaves beside the exit",
    broken: [`ip -n ${HERE} -6 rule del pref 5350`],
    is: "stops",
    says: /IPv6 leaves by wlan0/,
    first: true,
  },
  {
    title: "DNS that is no longer sent through the exit",
    broken: [`ip netns exec ${HERE} nft flush ruleset`],
    is: "stops",
    says: /look-ups go to this network's resolvers.*a reloaded firewall/s,
    first: true,
  },
  {
    title: "a reverse path filter that is strict again",
    broken: [`ip netns exec ${HERE} sysctl -qw net.ipv4.conf.all.rp_filter=1`],
    is: "stops",
    says: /exn0 drops what comes in by another way.*rp_filter=2/s,
    first: true,
  },
  {
    title: "a path that large packets do not pass",
    broken: [`ip -n ${EXIT} link set exn0 mtu 1200`],
    is: "stops",
    says: /small packets pass the tunnel, those of 1280 bytes do not.*mtu 1400/s,
    first: true,
  },
  {
    title: "an exit node that does not answer in the tunnel",
    broken: [`ip -n ${EXIT} link set exn0 down`],
    is: "warns",
    says: /home does not answer a ping through the tunnel.*exitnode ping home/s,
  },
  {
    title: "a coordinator where nobody listens",
    status: offline,
    is: "warns",
    says: /does not reach its coordinator: no answer; its map is 1 min old.*https:\/\/127\.0\.0\.1:1.*exitnode list/s,
    first: true,
  },
  {
    title: "a device that was revoked",
    status: { coordinator: { connected: false, refusal: "device-revoked" } },
    is: "stops",
    says: /refuses this device: device-revoked.*exitnode key create\nhere: exitnode down --forget/s,
    first: true,
  },
  {
    title: "a network that blocks UDP",
    netcheck: { udp: false },
    is: "warns",
    says: /blocks UDP: everything goes through a relay/,
  },
  {
    title: "the only relay, not reached, where it is needed",
    netcheck: {
      relays: [{ name: "vps", url: "https://192.0.2.22", home: true, state: "failing", reason: "certificate expired" }],
    },
    status: { peers: [relayed] },
    is: "stops",
    says: /the relay vps \(https:\/\/192\.0\.2\.22\) is not reached: certificate expired.*the only way/s,
    first: true,
  },
  {
    title: "a relayed path, with why",
    status: { peers: [relayed] },
    is: "warns",
    says: /home is reached through the relay vps.*both NATs are hard.*forward udp\/51820/s,
  },
  {
    title: "an exit node that is offline",
    status: { peers: [{ ...PEER, online: false, path: "searching" }] },
    is: "stops",
    says: /home is offline, so nothing leaves this machine.*exitnode use none/s,
    first: true,
  },
  {
    title: "an exit node to which no way is found",
    status: { peers: [{ ...PEER, path: "searching" }] },
    is: "stops",
    says: /no way to home is found.*exitnode netcheck/s,
    first: true,
  },
  {
    title: "an exit node that is no more",
    status: { exit: { name: "home", ipv4: true, ipv6: false, state: "gone" }, peers: [] },
    is: "stops",
    says: /"home", is not in the network any more.*exitnode use none/s,
    first: true,
  },
  {
    title: "an exit that leads nowhere",
    whoami: "http://127.0.0.1:1",
    is: "stops",
    says: /nobody in the Internet is reached through home.*exitnode trace/s,
    first: true,
  },
  {
    title: "an exit that offers IPv6 and has none",
    status: { exit: { name: "home", ipv4: true, ipv6: true, state: "active" } },
    is: "warns",
    says: /home offers IPv6, and nobody is reached by it/,
  },
  {
    title: "names that are not looked up",
    whoami: "http://nobody.invalid",
    is: "stops",
    says: /names are not looked up: .*nobody\.invalid.*exitnode logs home/s,
    first: true,
  },
  {
    title: "datagrams that went round in circles",
    status: { unsent: { looped: 12, refused: 0 } },
    is: "stops",
    says: /12 datagrams of the tunnel were routed back into it/,
    first: true,
  },
  { title: "what the agent warns of", status: { warnings: ["no GRO here"] }, is: "warns", says: /no GRO here/ },
];

describe("this machine as a device", { skip: roomMissing }, () => {
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "exn-d-device-"));
    mkdirSync(folder, { recursive: true });
    server = createServer((_request, response) => {
      if (date !== undefined) response.setHeader("date", date.toUTCString());
      response.end("198.51.100.1\n");
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  });
  after(async () => {
    server.close();
    await gone();
    rmSync(folder, { recursive: true, force: true });
  });
  afterEach(async () => {
    for (const close of open.splice(0)) await close();
  });

  test("that works has nothing found, with an exit in use and without", async () => {
    assert.deepEqual(await examine({}), []);
    await open.pop()?.();
    const { exit: _, ...idle } = STATUS;
    assert.deepEqual(
      await examine({ status: { ...idle, exit: undefined } as never, broken: [`ip -n ${HERE} rule del pref 5350`] }),
      [],
    );
  });

  for (const { title, is, says, first, ...situation } of rows)
    test(`${title}: is recognised, with what to do`, async () => {
      const found = await examine(situation);
      const matches = ({ severity, what, why = "", advice = "" }: Trouble): boolean =>
        severity === is && says.test(`${what}\n${why}\n${advice}`);
      assert.ok(found.some(matches), JSON.stringify(found, null, 1));
      if (first) assert.ok(found[0] !== undefined && matches(found[0]), JSON.stringify(found, null, 1));
    });

  test("a coordinator's address where something answers is told apart from one where nothing does", async () => {
    const host = await startFakeHost(() => "silence");
    open.push(host.close);
    const [found] = await examine({ status: offline, coordinator: host.url });
    assert.match(found?.why ?? "", /answers: somebody in between breaks the connection/);
  });
});

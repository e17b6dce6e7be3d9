// How fast, how lean and how quick the packet engine is, beside Debian 13's wireguard-go on the same machine.
// docs/performance.md says how to read it.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { chooseCores, makeBench, removeBench, takeBench } from "./dataplane/bed.mjs";
import { pings, tcp, udp } from "./dataplane/measure.mjs";
import { renderTable, summarize } from "./dataplane/summary.mjs";
import { DIRECT_ADDRESS, openTunnel, serverAddress } from "./dataplane/tunnel.mjs";

const MEASURES = ["up", "down", "udp1400", "ping", "peers100"];
const UDP_PACKET_BYTES = 1_400;
const WARM_UP_SECONDS = 2;
const PEERS = 100;
const LEAST_SHARE_USED = 0.85;

const { values: options } = parseArgs({
  options: {
    json: { type: "boolean" },
    rounds: { type: "string", default: "5" },
    seconds: { type: "string", default: "5" },
    share: { type: "string", default: "15" },
    only: { type: "string", default: MEASURES.join(",") },
    profile: { type: "boolean" },
  },
});
const say = (line) => process.stderr.write(`${line}\n`);
process.once("uncaughtException", (error) => {
  say(`bench dataplane: ${error.message}`);
  process.exit(1);
});

function number(name, least, most) {
  const value = Number(options[name]);
  if (!Number.isInteger(value) || value < least || value > most)
    throw new Error(`--${name} must be ${least} to ${most}, got ${options[name]}`);
  return value;
}
const rounds = number("rounds", 1, 50);
const seconds = number("seconds", 1, 60);
const share = number("share", 5, 100);
const only = options.only.split(",");
for (const name of only)
  if (!MEASURES.includes(name)) throw new Error(`--only takes ${MEASURES.join(", ")}, got "${name}"`);
/**
 * Datagrams are sent at twice what either node was seen to carry, so that both drop and what arrives is what they can
 * do. They cost the client three times what the streams do: half the share keeps it from being the limit.
 */
const udpShare = share / 2;
const udpOfferedMbit = Math.min(400, Math.round(udpShare * 27));

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const build = resolve(root, process.env.EXN_BUILD ?? "build");
execFileSync(process.execPath, [join(root, "scripts/build.mjs"), "dev"], { env: { ...process.env, EXN_BUILD: build } });
const fetcher = join(root, "scripts/fetch-wireguard-go");
const program = execFileSync(fetcher, { encoding: "utf8" }).trim();
// The package's version; the program itself tells an older one.
const baseline = /^version=(\S+)$/m.exec(readFileSync(fetcher, "utf8"))?.[1];
const profile = options.profile ? mkdtempSync(join(tmpdir(), "exitnode-profile-")) : undefined;

const cores = chooseCores();
const parts = {
  root,
  build,
  // The thread runs what is shipped; a profile shall show names and lines of the sources.
  worker: options.profile ? join(build, "src/agentmain.js") : join(root, "dist/agent.js"),
  program,
  cores,
  share,
  profile,
};
const CONTESTANTS = [
  { index: 0, name: "baseline", kind: "go" },
  { index: 1, name: "ours", kind: "ours" },
  { index: 2, name: "ours100", kind: "ours", strangers: PEERS - 1 },
];

takeBench();
for (const [name, code] of [
  ["SIGINT", 130],
  ["SIGTERM", 143],
  ["SIGHUP", 129],
])
  process.once(name, () => {
    removeBench();
    process.exit(code);
  });
// The sampling shall not run on the node's core.
spawnSync("taskset", ["-a", "-p", "-c", String(cores.rest), String(process.pid)], { stdio: "ignore" });

/** Samples by measure and contestant. */
const samples = {};
function note(measure, contestant, sample) {
  samples[measure] ??= {};
  samples[measure][contestant] ??= [];
  samples[measure][contestant].push(sample);
}

/** Measurements in which the node did not use its share: something else was the limit, and the figure says little. */
let starved = 0;

/** Who is first changes from round to round. */
const turn = (list, round) => (round % 2 === 0 ? list : [...list].reverse());

async function measureRound(round) {
  const tunnels = [];
  try {
    for (const contestant of CONTESTANTS)
      if (contestant.name !== "ours100" || only.includes("peers100")) tunnels.push(await openTunnel(parts, contestant));
    const pair = tunnels.filter(({ name }) => name !== "ours100");
    // On a whole core: what is compiled while it runs shall be compiled before it is measured.
    for (const tunnel of tunnels) {
      tunnel.limit(100);
      for (const direction of ["up", "down"]) await tcp(cores.rest, tunnel, direction, WARM_UP_SECONDS);
      tunnel.limit(share);
    }

    const rates = async (measure, list, work, limit = share) => {
      for (const tunnel of turn(list, round)) {
        const sample = await work(tunnel);
        note(measure, tunnel.name, sample);
        if (sample.cpuShare * 100 < limit * LEAST_SHARE_USED) starved++;
      }
      const [one, other] = list.map(({ name }) => ({ name, ...samples[measure][name].at(-1) }));
      const words = [one, other].map(
        ({ name, mbit, cpuShare }) =>
          `${name} ${Math.round(mbit)} Mbit/s with ${Math.round(cpuShare * 100)} % of a core`,
      );
      say(`round ${round + 1} ${measure}: ${words.join(", ")}, ratio ${(other.mbit / one.mbit).toFixed(2)}`);
    };
    for (const direction of ["up", "down"])
      if (only.includes(direction))
        await rates(direction, pair, (tunnel) => tcp(cores.rest, tunnel, direction, seconds));
    if (only.includes("udp1400")) {
      for (const tunnel of pair) tunnel.limit(udpShare);
      for (const direction of ["up", "down"])
        await rates(
          `udp1400 ${direction}`,
          pair,
          (tunnel) => udp(cores.rest, tunnel, direction, seconds, UDP_PACKET_BYTES, udpOfferedMbit),
          udpShare,
        );
      for (const tunnel of pair) tunnel.limit(share);
    }
    if (only.includes("peers100"))
      for (const direction of ["up", "down"])
        await rates(
          `peers100 ${direction}`,
          tunnels.filter(({ name }) => name !== "baseline"),
          (tunnel) => tcp(cores.rest, tunnel, direction, seconds),
        );
    if (only.includes("ping")) {
      note("ping", "direct", pings(DIRECT_ADDRESS));
      for (const tunnel of turn(pair, round)) note("ping", tunnel.name, pings(tunnel.address));
    }
  } finally {
    for (const tunnel of tunnels) await tunnel.close();
  }
}

try {
  makeBench(
    DIRECT_ADDRESS,
    CONTESTANTS.map(({ index }) => serverAddress(index)),
  );
  for (let round = 0; round < rounds; round++) await measureRound(round);
} finally {
  removeBench();
}
if (starved > 0)
  say(`${starved} measurements did not use the node's share: the machine is busy, or the client is the limit`);
if (profile !== undefined) say(`profiles: ${profile}`);

const result = {
  bench: "dataplane",
  baseline: `wireguard-go ${baseline}`,
  rounds,
  secondsEach: seconds,
  sharePercent: share,
  ...summarize(samples, udpOfferedMbit),
  starvedMeasurements: starved,
};
process.stdout.write(options.json ? `${JSON.stringify(result)}\n` : renderTable(result));

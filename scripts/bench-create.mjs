// How long from `exitnode create` to the first packet through the tunnel, what the parts weigh, and what more hosts and
// a slower network cost, in the lab.
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, cpSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const { values: options } = parseArgs({
  options: { json: { type: "boolean" }, rounds: { type: "string", default: "3" } },
});
const rounds = Number(options.rounds);
if (!Number.isInteger(rounds) || rounds < 1 || rounds > 20)
  throw new Error(`--rounds must be 1 to 20, got ${options.rounds}`);
const scripts = dirname(fileURLToPath(import.meta.url));
const program = join(scripts, "../dist/exitnode.js");
const ROUND_TRIP_MS = 10;
const say = (line) => process.stderr.write(`${line}\n`);

function exitnode(...args) {
  return execFileSync(process.execPath, [program, ...args], { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
}
const value = (...args) => JSON.parse(exitnode(...args, "--json"));
const laptop = (...args) => exitnode("lab", "exec", "laptop", "--", ...args);
const now = () => performance.now() / 1000;
const median = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];
const round = (number, digits = 2) => Number(number.toFixed(digits));

function seconds(work) {
  const from = now();
  work();
  return now() - from;
}

/** Memory of a container's processes as /proc tells it, from outside: resident sizes by command line, in MiB. */
function residents() {
  const found = { agent: 0, coordinator: 0 };
  for (const pid of execFileSync("ps", ["-eo", "pid="], { encoding: "utf8" })
    .split("\n")
    .map((text) => text.trim())) {
    if (pid === "") continue;
    try {
      const argv = readFileSync(`/proc/${pid}/cmdline`, "utf8");
      const resident = Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) / 1024;
      if (argv.includes("/opt/exitnode/agent.js")) found.agent = Math.max(found.agent, resident);
      if (argv.includes("/opt/exitnode/coordinator.js")) found.coordinator = Math.max(found.coordinator, resident);
    } catch {
      // the process ended while we looked
    }
  }
  return found;
}

exitnode("lab", "up");
exitnode("appliance", "build");
exitnode("appliance", "upload", "--host", "lab");

const create = [];
const firstPacket = [];
const overhead = [];
const steps = {};
// What the host does and what the container takes to boot: the rest of a create is ours.
const THEIRS = ["upload-template", "create-container", "start-container", "wait-address"];
for (let i = 0; i < rounds; i++) {
  spawnSync(process.execPath, [program, "lab", "exec", "laptop", "--", "exitnode", "down", "--forget"]);
  spawnSync(process.execPath, [program, "destroy", "home", "--host", "lab", "--yes"]);
  const from = now();
  const made = value("create", "--host", "lab", "--name", "home");
  create.push(now() - from);
  for (const { step, seconds: took } of made.steps) steps[step] = [...(steps[step] ?? []), took];
  const theirs = made.steps.filter(({ step }) => THEIRS.includes(step)).reduce((sum, one) => sum + one.seconds, 0);
  overhead.push(create.at(-1) - theirs);
  const { joinKey } = value("key", "create", "--role", "device");
  laptop("exitnode", "up", "--join", joinKey, "--name", "laptop");
  laptop("exitnode", "use", "home");
  laptop("curl", "-4", "-s", "-m", "10", "http://whoami.lab/");
  firstPacket.push(now() - from);
  say(
    `round ${i + 1}: create ${create.at(-1).toFixed(1)} s, first packet through the tunnel ${firstPacket.at(-1).toFixed(1)} s`,
  );
}
const unchanged = [];
for (let i = 0; i < rounds; i++) unchanged.push(seconds(() => exitnode("create", "--host", "lab", "--name", "home")));

/**
 * From a machine of the home LAN with 10 ms to the host and the container: a proxy beside the program delays, and
 * nftables leads the program's connections to it. Everybody but the proxy's user is led.
 */
async function noChangeAt10ms() {
  const inNas = ["nsenter", "--net=/run/netns/exn-nas"];
  const { address } = value("list").exitNodes.find(({ name }) => name === "home");
  const ways = { 18006: "198.18.77.10:8006", 10022: `${address}:22`, 10443: `${address}:443` };
  const nobody = 65534;
  const rules = Object.entries(ways).map(([port, target]) => {
    const [host, targetPort] = target.split(":");
    return `ip daddr ${host} tcp dport ${targetPort} meta skuid != ${nobody} redirect to :${port}`;
  });
  const table = `table ip exitnode-bench { chain out { type nat hook output priority -100; ${rules.join("; ")}; }; }`;
  const pairs = Object.entries(ways).map(([port, target]) => `${port}=${target}`);
  const delay = [
    process.execPath,
    join(scripts, "create/delay.mjs"),
    String(ROUND_TRIP_MS / 2),
    String(nobody),
    ...pairs,
  ];
  const proxy = spawn(inNas[0], [...inNas.slice(1), ...delay], { stdio: ["ignore", "pipe", "inherit"] });
  const nft = (text) => execFileSync(inNas[0], [...inNas.slice(1), "nft", text]);
  try {
    await once(proxy.stdout, "data");
    nft(table);
    const took = [];
    const argv = [...inNas.slice(1), process.execPath, program, "create", "--host", "lab", "--name", "home"];
    for (let i = 0; i < rounds; i++)
      took.push(seconds(() => execFileSync(inNas[0], argv, { stdio: ["ignore", "pipe", "inherit"] })));
    return median(took);
  } finally {
    spawnSync(inNas[0], [...inNas.slice(1), "nft", "delete table ip exitnode-bench"], { stdio: "ignore" });
    proxy.kill("SIGKILL");
  }
}

/** `plan --all` for twenty exit nodes on four hosts, which are one process in a network namespace of its own. */
function plan20x4() {
  const world = [join(scripts, "create/hosts.mjs"), join(scripts, "../build"), String(ROUND_TRIP_MS / 2)];
  const shell = ["sh", "-c", 'ip link set lo up && exec "$0" "$@"', process.execPath];
  const argv = ["-n", ...shell, ...world, program, String(rounds)];
  return median(
    JSON.parse(execFileSync("unshare", argv, { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] })).seconds,
  );
}

/** An upgrade to another build of the agent, there and back: this package beside a copy whose agent has a line more. */
function upgrades() {
  const folder = mkdtempSync(join(tmpdir(), "exitnode-bench-"));
  try {
    for (const part of ["dist", "templates", "package.json"])
      cpSync(join(scripts, "..", part), join(folder, part), { recursive: true });
    appendFileSync(join(folder, "dist/agent.js"), "\n// another build\n");
    const took = [];
    for (let i = 0; i < rounds; i++) {
      const other = i % 2 === 0 ? join(folder, "dist/exitnode.js") : program;
      const argv = [other, "upgrade", "home", "--host", "lab", "--json"];
      took.push(
        JSON.parse(execFileSync(process.execPath, argv, { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] })),
      );
    }
    if (rounds % 2 === 1) exitnode("upgrade", "home", "--host", "lab");
    for (const { changed } of took) if (!changed) throw new Error("an upgrade found nothing to do");
    return took;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const help = [];
for (let i = 0; i < 10; i++) help.push(seconds(() => exitnode("--help")));
const memory = residents();
const vmid = value("list").exitNodes.find(({ name }) => name === "home")?.vmid;

/** What the container's own memory group is charged with, page cache included. */
function containerMiB() {
  const attach = ["lxc-attach", "-P", "/var/lib/exitnode-lab/pve/lxc", "-n", String(vmid), "--clear-env", "--"];
  const read = "cat /sys/fs/cgroup/memory/memory.usage_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.current";
  const bytes = execFileSync("nsenter", ["--net=/run/netns/exn-pve1", ...attach, "sh", "-c", read], {
    encoding: "utf8",
  });
  return Math.round(Number(bytes) / 1024 / 1024);
}

const upgraded = upgrades();
const result = {
  bench: "create",
  rounds,
  seconds: {
    create: round(median(create)),
    firstPacket: round(median(firstPacket)),
    unchanged: round(median(unchanged)),
    help: round(median(help), 3),
  },
  overheadSeconds: round(median(overhead)),
  noChangeAt10msSeconds: round(await noChangeAt10ms()),
  plan20x4Seconds: round(plan20x4()),
  upgradeSeconds: round(median(upgraded.map(({ seconds }) => seconds))),
  upgradeSteps: upgraded.at(-1).steps,
  steps: Object.fromEntries(Object.entries(steps).map(([step, list]) => [step, round(median(list))])),
  residentMiB: {
    agent: Math.round(memory.agent),
    coordinator: Math.round(memory.coordinator),
    container: containerMiB(),
  },
};
process.stdout.write(options.json ? `${JSON.stringify(result)}\n` : `${JSON.stringify(result, null, 2)}\n`);

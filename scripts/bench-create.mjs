// How long from `exitnode create` to the first packet through the tunnel, and what the parts weigh, in the lab.
import { execFileSync, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const { values: options } = parseArgs({
  options: { json: { type: "boolean" }, rounds: { type: "string", default: "3" } },
});
const rounds = Number(options.rounds);
if (!Number.isInteger(rounds) || rounds < 1 || rounds > 20)
  throw new Error(`--rounds must be 1 to 20, got ${options.rounds}`);
const program = join(dirname(fileURLToPath(import.meta.url)), "../dist/exitnode.js");
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
const steps = {};
for (let i = 0; i < rounds; i++) {
  spawnSync(process.execPath, [program, "lab", "exec", "laptop", "--", "exitnode", "down", "--forget"]);
  spawnSync(process.execPath, [program, "destroy", "home", "--host", "lab", "--yes"]);
  const from = now();
  const made = value("create", "--host", "lab", "--name", "home");
  create.push(now() - from);
  for (const { step, seconds: took } of made.steps) steps[step] = [...(steps[step] ?? []), took];
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

const result = {
  bench: "create",
  rounds,
  seconds: {
    create: round(median(create)),
    firstPacket: round(median(firstPacket)),
    unchanged: round(median(unchanged)),
    help: round(median(help), 3),
  },
  steps: Object.fromEntries(Object.entries(steps).map(([step, list]) => [step, round(median(list))])),
  residentMiB: {
    agent: Math.round(memory.agent),
    coordinator: Math.round(memory.coordinator),
    container: containerMiB(),
  },
};
process.stdout.write(options.json ? `${JSON.stringify(result)}\n` : `${JSON.stringify(result, null, 2)}\n`);

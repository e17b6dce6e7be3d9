import { createHash } from "node:crypto";
import { Failure } from "../kit/failure.js";
import type { Exec, ExecOptions, Ran } from "../sys/exec.js";
import type { Files } from "../sys/files.js";
import { type DaemonParts, type ProcessId, readProcess, stopProcesses } from "./daemons.js";
import { placeEtc } from "./dnsmasq.js";
import { namespaceOf, type Place, type Topology } from "./internet.js";
import * as iproute from "./iproute.js";
import { NETNS_DIR, NETNS_ETC, RUN_DIR, TOOL_PATH } from "./places.js";
import { rulesOf, type Step } from "./reshape.js";

/** Makes the topology real and takes it away again. What exists is asked of the kernel; the mark says it is whole. */

export type NetworkState = "absent" | "partial" | "damaged" | "outdated" | "up";

const MARK = `${RUN_DIR}/network.json`;
/** Says that /run/netns was not a mount before the lab: `ip netns add` makes it one, and nothing ever undoes that. */
const NETNS_MARK = `${RUN_DIR}/netns-dir-is-ours`;

export async function observeNetwork(files: Files, topology: Topology): Promise<NetworkState> {
  const there = await existingPlaces(files, topology);
  const whole = there.length === topology.places.length && (await hasMachineLink(files, topology));
  const mark = await files.readText(MARK);
  if (mark === undefined || mark.split("\n")[0] !== (await bootId(files))) {
    const traces =
      there.length > 0 || (await hasMachineLink(files, topology)) || (await files.list(RUN_DIR)).length > 0;
    return traces ? "partial" : "absent";
  }
  if (!whole) return "damaged";
  return mark.split("\n")[1] === digestOf(topology) ? "up" : "outdated";
}

/** Written last: a network without it was not finished, and nothing of anybody's can be in it. */
export async function markComplete(files: Files, topology: Topology): Promise<void> {
  await files.write(MARK, `${await bootId(files)}\n${digestOf(topology)}\n`);
}

const bootId = async (files: Files): Promise<string> =>
  ((await files.readText("/proc/sys/kernel/random/boot_id")) ?? "").trim();

const digestOf = (topology: Topology): string => createHash("sha256").update(JSON.stringify(topology)).digest("hex");

async function existingPlaces(files: Files, topology: Topology): Promise<Place[]> {
  const names = new Set(await files.list(NETNS_DIR));
  return topology.places.filter((place) => names.has(namespaceOf(place.name)));
}

const hasMachineLink = async (files: Files, topology: Topology): Promise<boolean> =>
  (await files.list("/sys/class/net")).includes(topology.machine.name);

/** The first step of every removal: what is left of the lab from now on is nobody's to keep. */
export const forgetComplete = (files: Files): Promise<void> => files.remove(MARK);

/** Needs a machine without any trace of the lab. */
export async function buildNetwork(
  { exec, files }: { exec: Exec; files: Files },
  topology: Topology,
  signal: AbortSignal,
): Promise<void> {
  const run = (argv: readonly string[], input: string): Promise<void> => {
    if (signal.aborted) throw interrupted();
    return apply(exec, argv, input);
  };
  await refuseCollision(exec, topology);
  await files.write(`${RUN_DIR}/started`, "");
  if (!(await isMountPoint(files, NETNS_DIR))) await files.write(NETNS_MARK, "");
  await run(["ip", "-batch", "-"], iproute.renderNamespaces(topology));
  await Promise.all(
    topology.places.map((place) => {
      const script = iproute.renderSysctls(iproute.sysctlsOf(place));
      return run(["nsenter", `--net=${NETNS_DIR}/${namespaceOf(place.name)}`, "sh", "-s"], script);
    }),
  );
  await run(["ip", "-batch", "-"], iproute.renderLinks(topology));
  await run(["sh", "-s"], iproute.renderSysctls(iproute.MACHINE_SYSCTLS));
  await Promise.all([
    run(["ip", "-batch", "-"], iproute.renderMachine(topology)),
    ...topology.places.map(async (place) => {
      const namespace = namespaceOf(place.name);
      await run(["ip", "-n", namespace, "-batch", "-"], iproute.renderPlace(place));
      if (rulesOf(place) !== "")
        await run(["nsenter", `--net=${NETNS_DIR}/${namespace}`, "nft", "-f", "-"], rulesOf(place));
      for (const [name, text] of Object.entries(placeEtc(place)))
        await files.write(`${NETNS_ETC}/${namespace}/${name}`, text);
    }),
  ]);
}

/** Does the steps, one after the other. */
export async function reshapeNetwork(exec: Exec, steps: readonly Step[]): Promise<void> {
  for (const { place, gone, wanted, rules, resolvConf, forgetConnections } of steps) {
    const namespace = namespaceOf(place);
    const ip = ["ip", "-n", namespace, "-force", "-batch", "-"];
    if (gone !== undefined) await tolerate(exec, ip, ALREADY_GONE, gone);
    if (wanted !== undefined) await apply(exec, ["ip", "-n", namespace, "-batch", "-"], wanted);
    if (rules !== undefined) await apply(exec, ["nsenter", `--net=${NETNS_DIR}/${namespace}`, "nft", "-f", "-"], rules);
    if (forgetConnections) await apply(exec, ["nsenter", `--net=${NETNS_DIR}/${namespace}`, "perl", "-e", FLUSH], "");
    if (resolvConf !== undefined)
      await apply(exec, ["sh", "-c", 'cat > "$1"', "sh", `${NETNS_ETC}/${namespace}/resolv.conf`], resolvConf);
  }
}

/**
 * Empties a namespace's table of connections, by the one netlink message that `conntrack -F` sends: nlmsghdr of
 * IPCTNL_MSG_CT_DELETE (subsystem 1, message 2) with REQUEST and ACK, and an empty nfgenmsg. perl-base is in every
 * Debian; the package conntrack is not.
 */
const FLUSH = `
socket(my $netlink, 16, 3, 12) or die "socket: $!";
send($netlink, pack("LSSLLCCS", 20, 0x102, 5, 1, 0, 0, 0, 0), 0) or die "send: $!";
recv($netlink, my $answer, 4096, 0);
($! = -unpack("x16l", $answer)) and die "flush: $!";
`;

/** Of each line that `ip` could not do, and what it says below it. */
const ALREADY_GONE =
  /^((RTNETLINK answers: (Cannot assign requested address|No such process)|Error: ipv[46]: Address not found\.|Cannot find device .*|Command failed .*)\n?)*$/i;

/** Takes away whatever is there, from any state; every process inside the lab's namespaces ends. */
export async function removeNetwork(parts: DaemonParts, topology: Topology): Promise<void> {
  const { exec, files } = parts;
  const places = await existingPlaces(files, topology);
  await stopProcesses(parts, async () => {
    const found = await Promise.all(places.map((place) => processesIn(parts, place)));
    return found.flat();
  });
  if (await hasMachineLink(files, topology))
    await tolerate(exec, ["ip", "link", "delete", topology.machine.name], /Cannot find device/);
  for (const place of places) await tolerate(exec, ["ip", "netns", "delete", namespaceOf(place.name)], /No such file/);
  const namespaces = topology.places.map((place) => namespaceOf(place.name));
  for (const namespace of namespaces) await files.remove(`${NETNS_ETC}/${namespace}`);
  await tolerate(exec, ["rmdir", NETNS_ETC], /No such file|not empty/);
  if ((await files.readText(NETNS_MARK)) !== undefined && (await files.list(NETNS_DIR)).length === 0) {
    // Refused while anybody else's namespace is in it, and then it is theirs.
    const ran = await exec.run(["umount", NETNS_DIR], { env: { PATH: TOOL_PATH } });
    if (ran.exitCode === 0) await tolerate(exec, ["rmdir", NETNS_DIR], /No such file|not empty|busy/);
  }
  await files.remove(RUN_DIR);
}

async function processesIn({ exec, files }: DaemonParts, place: Place): Promise<ProcessId[]> {
  const { stdout } = await tool(exec, ["ip", "netns", "pids", namespaceOf(place.name)]);
  const pids = stdout
    .split("\n")
    .map(Number)
    .filter((pid) => pid > 1);
  const processes = await Promise.all(pids.map((pid) => readProcess(files, pid)));
  return processes.filter((process) => process !== undefined);
}

const interrupted = (): Failure =>
  new Failure("interrupted", "the lab was not finished", { advice: "exitnode lab up, or exitnode lab down" });

async function refuseCollision(exec: Exec, topology: Topology): Promise<void> {
  const address = topology.machine.addresses[0] ?? "";
  const lan = address.replace(/\d+\/(\d+)$/, "0/$1");
  const { stdout } = await tool(exec, ["ip", "route", "show", "root", lan]);
  if (stdout.trim() !== "")
    throw new Failure("lab-range-taken", `this machine already has a route into ${lan}: ${stdout.trim()}`, {
      advice: "take that route away while the lab runs, or run the lab in a virtual machine",
    });
}

/** Mounts are listed with their target as the fifth field (proc(5), mountinfo). */
async function isMountPoint(files: Files, path: string): Promise<boolean> {
  const mounts = (await files.readText("/proc/self/mountinfo")) ?? "";
  return mounts.split("\n").some((line) => line.split(" ")[4] === path);
}

async function apply(exec: Exec, argv: readonly string[], input: string): Promise<void> {
  const ran = await tool(exec, argv, { input });
  if (ran.exitCode === 0) return;
  const said = (ran.stderr.trim() || ran.stdout.trim()).slice(-600);
  throw new Failure("lab-network", `${argv.join(" ")} exited ${ran.exitCode}: ${said}`, {
    advice: AFRESH,
  });
}

const AFRESH = "exitnode lab down && exitnode lab up";

async function tolerate(exec: Exec, argv: readonly string[], already: RegExp, input = ""): Promise<void> {
  const ran = await tool(exec, argv, { input });
  if (ran.exitCode !== 0 && !already.test(ran.stderr))
    throw new Failure("lab-network", `${argv.join(" ")} exited ${ran.exitCode}: ${ran.stderr.trim()}`, {
      advice: AFRESH,
    });
}

function tool(exec: Exec, argv: readonly string[], options: ExecOptions = {}): Promise<Ran> {
  return exec.run(argv, { ...options, env: { PATH: TOOL_PATH, LC_ALL: "C" } });
}

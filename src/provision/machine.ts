import { Failure } from "../kit/failure.js";
import { shellWord } from "../kit/shell.js";
import type { Millis } from "../kit/time.js";
import type { Ssh } from "../sys/ssh.js";
import { SECTION_MARK, sectionsOf } from "./inside.js";
import type { Progress } from "./parts.js";
import type { WantedFile } from "./payload.js";

/**
 * A machine of one's own with root by SSH, such as a rented server, that gets one service of ours: the difference
 * between the files it is to have and those it has, a restart when there was one, and nothing at all otherwise.
 */
export type Service = {
  /** "coordinator" or "relay". */
  readonly name: string;
  /** With .service. */
  readonly unit: string;
  readonly files: readonly WantedFile[];
  /** What follows the files, in this order; each is safe to repeat. */
  readonly commands: readonly (readonly string[])[];
  /** The first of the commands make the users that own files: they follow the files named here. */
  readonly users?: { readonly path: string; readonly command: readonly string[] };
  readonly tcpPort: number;
  /** 0: none. */
  readonly udpPort: number;
  /** `uname -m` of machines that the pushed native parts run on; undefined when there are none. */
  readonly architecture: string | undefined;
};

/** What one look says of a machine. */
export type Machine = {
  readonly isRoot: boolean;
  readonly system: readonly string[];
  readonly architecture: string;
  readonly systemd: boolean;
  /** As `node --version` says it, "" without one. */
  readonly node: string;
  readonly sums: ReadonlyMap<string, string>;
  /** "644 root:root" by path. */
  readonly owners: ReadonlyMap<string, string>;
  readonly active: boolean;
  readonly enabled: boolean;
  /** Services of ours that run there, by unit. */
  readonly others: readonly string[];
  readonly tcp: ReadonlySet<number>;
  readonly udp: ReadonlySet<number>;
  /** A push was begun there and its commands have not been done. */
  readonly pending: boolean;
};

const NODE_LEAST = [20, 19] as const;
const LOOK_TIMEOUT_MS: Millis = 20_000;
const COMMAND_TIMEOUT_MS: Millis = 90_000;
const JOURNAL_LINES = 8;
const SERVICES = ["exitnode-coordinator.service", "exitnode-relay.service", "exitnode-agent.service"];

const pendingPath = (service: Service): string => `/var/lib/exitnode-provision/pending-${service.name}`;

/** Run by `sh -s`. Ports are read from /proc: a small machine may have no ss. */
export function machineScript(service: Service): string {
  const section = (name: string): string => `printf '%s %s\\n' '${SECTION_MARK}' ${name}`;
  const paths = service.files.map(({ path }) => shellWord(path)).join(" ");
  return [
    "export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin",
    section("user"),
    "id -u",
    section("system"),
    "(. /etc/os-release 2>/dev/null; echo $ID $ID_LIKE)",
    section("architecture"),
    "uname -m",
    section("systemd"),
    "[ -d /run/systemd/system ] && echo yes",
    section("node"),
    "[ -x /usr/bin/node ] && /usr/bin/node --version",
    section("sums"),
    `sha256sum -- ${paths} 2>/dev/null`,
    section("owners"),
    `stat -c '%a %U:%G %n' -- ${paths} 2>/dev/null`,
    section("active"),
    ...SERVICES.map((unit) => `systemctl is-active -q ${unit} 2>/dev/null && echo ${unit}`),
    section("enabled"),
    `systemctl is-enabled ${shellWord(service.unit)} 2>/dev/null`,
    section("tcp"),
    "cat /proc/net/tcp /proc/net/tcp6 2>/dev/null",
    section("udp"),
    "cat /proc/net/udp /proc/net/udp6 2>/dev/null",
    section("pending"),
    `[ -e ${shellWord(pendingPath(service))} ] && echo yes`,
    "exit 0",
    "",
  ].join("\n");
}

export function parseMachine(text: string, service: Service): Machine {
  const sections = sectionsOf(text);
  const of = (name: string): readonly string[] => sections.get(name) ?? [];
  const active = of("active");
  return {
    isRoot: of("user")[0] === "0",
    system: (of("system")[0] ?? "").split(" ").filter((one) => one !== ""),
    architecture: of("architecture")[0] ?? "",
    systemd: of("systemd")[0] === "yes",
    node: of("node")[0] ?? "",
    sums: new Map(of("sums").map((line) => [line.slice(66), line.slice(0, 64)])),
    owners: new Map(
      of("owners").map((line) => {
        const [mode = "", owner = "", ...path] = line.split(" ");
        return [path.join(" "), `${mode} ${owner}`];
      }),
    ),
    active: active.includes(service.unit),
    enabled: of("enabled")[0] === "enabled",
    others: active.filter((unit) => unit !== service.unit),
    tcp: portsIn(of("tcp"), LISTENS_TCP),
    udp: portsIn(of("udp"), LISTENS_UDP),
    pending: of("pending")[0] === "yes",
  };
}

/** linux/include/net/tcp_states.h: TCP_LISTEN, and TCP_CLOSE, which is what an unconnected UDP socket shows. */
const LISTENS_TCP = "0A";
const LISTENS_UDP = "07";

function portsIn(lines: readonly string[], state: string): Set<number> {
  const fields = lines.map((line) => line.trim().split(/\s+/)).filter((one) => one[3] === state);
  return new Set(fields.map((one) => Number.parseInt(one[1]?.split(":")[1] ?? "", 16)));
}

/** What keeps the service from running there, said before anything is changed. */
export function machineTrouble(machine: Machine, service: Service, where: string): Failure | undefined {
  const refuse = (code: string, words: string, advice: string): Failure =>
    new Failure(code, `${where} ${words}`, { advice });
  if (!machine.isRoot)
    return refuse("root-needed", "lets in a user who is not root", `use root@${where.replace(/^.*@/, "")}`);
  if (!machine.systemd || !machine.system.some((one) => one === "debian" || one === "ubuntu"))
    return refuse(
      "machine-unsupported",
      `is no Debian-like system with systemd: it says "${machine.system.join(" ")}"`,
      service.name === "relay" ? "run it there by hand: exitnode relay" : "run it there by hand: exitnode serve",
    );
  if (service.architecture !== undefined && machine.architecture !== service.architecture)
    return refuse(
      "machine-unsupported",
      `is ${machine.architecture}, and this program's native parts are for ${service.architecture}`,
      `run this on a machine that is ${machine.architecture}`,
    );
  const [major = 0, minor = 0] = machine.node.replace(/^v/, "").split(".").map(Number);
  if (major < NODE_LEAST[0] || (major === NODE_LEAST[0] && minor < NODE_LEAST[1]))
    return refuse(
      "node-missing",
      `has ${machine.node === "" ? "no /usr/bin/node" : `Node ${machine.node}`}, expected ${NODE_LEAST.join(".")} or newer`,
      `ssh ${where} apt-get install -y nodejs    (Debian 13 has it)`,
    );
  if (machine.active) return undefined;
  const other = machine.others.find((unit) => !unit.includes("agent"));
  for (const [protocol, port, taken] of [
    ["tcp", service.tcpPort, machine.tcp],
    ["udp", service.udpPort, machine.udp],
  ] as const)
    if (port !== 0 && taken.has(port))
      return refuse(
        "port-taken",
        `has ${protocol}/${port} in use by ${other ?? "another program"}`,
        other === "exitnode-coordinator.service"
          ? "nothing is to be done: a relay runs beside every coordinator"
          : `ssh ${where} ss -lnp${protocol.slice(0, 1)} 'sport = :${port}'    (or choose another port)`,
      );
  return undefined;
}

/** The files that are not there, or not so. */
export function changedFiles(machine: Machine, service: Service): WantedFile[] {
  return service.files.filter(
    ({ path, sha256, mode, owner }) =>
      machine.sums.get(path) !== sha256 || machine.owners.get(path) !== `${mode.toString(8)} ${owner}`,
  );
}

export type MachineParts = {
  readonly ssh: Ssh;
  readonly progress: Progress;
  readonly signal: AbortSignal;
  /** root@host, for words. */
  readonly where: string;
};

/** Makes the machine run the service; what was changed, in words, or nothing. */
export async function putService(parts: MachineParts, service: Service): Promise<string[]> {
  const { ssh, progress, signal, where } = parts;
  const look = async (): Promise<Machine> => {
    const ran = await ssh.run(["sh", "-s"], { input: machineScript(service), timeoutMs: LOOK_TIMEOUT_MS, signal });
    return parseMachine(ran.stdout, service);
  };
  const machine = await progress.step(`look at ${where}`, look);
  const trouble = machineTrouble(machine, service, where);
  if (trouble !== undefined) throw trouble;
  const files = changedFiles(machine, service);
  const due = files.length > 0 || machine.pending || !machine.active || !machine.enabled;
  if (!due) return [];
  // A push that is cut off leaves the mark, and the next run does what then is due.
  const mark = pendingPath(service);
  await succeed(parts, [
    "sh",
    "-c",
    `mkdir -p ${shellWord(mark.slice(0, mark.lastIndexOf("/")))} && touch ${shellWord(mark)}`,
  ]);
  if (files.length > 0)
    await progress.step(`push ${files.length} file${files.length === 1 ? "" : "s"} to ${where}`, async () => {
      const { users } = service;
      const first = files.filter(({ path }) => path === users?.path);
      await ssh.push(first, signal);
      if (users !== undefined) await succeed(parts, users.command);
      await ssh.push(
        files.filter((file) => !first.includes(file)),
        signal,
      );
    });
  await progress.step(`start the ${service.name} on ${where}`, async () => {
    for (const argv of service.commands) await succeed(parts, argv, service);
  });
  await succeed(parts, ["rm", "-f", mark]);
  const started = machine.active ? "restarted" : "started";
  return [...files.map(({ path }) => `wrote ${path}`), `${started} ${service.unit}`];
}

async function succeed({ ssh, signal }: MachineParts, argv: readonly string[], service?: Service): Promise<void> {
  const ran = await ssh.run(argv, { timeoutMs: COMMAND_TIMEOUT_MS, signal });
  if (ran.exitCode === 0) return;
  const said = ran.stderr.trim().slice(-500);
  const journal =
    service === undefined
      ? ""
      : (
          await ssh.run(["journalctl", "-u", service.unit, "-n", String(JOURNAL_LINES), "-o", "cat", "--no-pager"])
        ).stdout
          .trim()
          .split("\n")
          .map((line) => `\n    ${line.slice(0, 300)}`)
          .join("");
  throw new Failure("apply-failed", `${argv.join(" ")} exited ${ran.exitCode}: ${said}${journal}`, {
    advice: "run the command again; it goes on where this one stopped",
  });
}

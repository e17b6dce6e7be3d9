import { execa } from "execa";
import type { Millis } from "../../kit/time.js";

/** How a program is run here: argv without a shell, a deadline, the environment replaced. */
export type ProgramOptions = {
  readonly input?: string;
  readonly signal?: AbortSignal;
  readonly timeoutMs?: Millis;
};
export type Ran = { readonly exitCode: number; readonly stdout: string; readonly stderr: string };

const TIMEOUT_MS: Millis = 120_000;
/** The first user and group id of every unprivileged container, and how many, as on Proxmox VE. */
export const ID_BASE = 100_000;
export const ID_COUNT = 65_536;

/**
 * No /usr/bin in the path: LXC uses newuidmap when it finds it, and that insists on an entry for root in /etc/subuid.
 * Without it LXC writes the map itself, which root may, and the host's files stay as they are.
 */
const LXC_ENV = { PATH: "/usr/sbin:/sbin", LC_ALL: "C", HOME: "/root" };

export async function runProgram(argv: readonly string[], options: ProgramOptions = {}): Promise<Ran> {
  const [file = "", ...args] = argv;
  const result = await execa(file, args, {
    reject: false,
    extendEnv: false,
    env: LXC_ENV,
    timeout: options.timeoutMs ?? TIMEOUT_MS,
    forceKillAfterDelay: 2_000,
    ...(options.input === undefined ? { stdin: "ignore" as const } : { input: options.input }),
    ...(options.signal === undefined ? {} : { cancelSignal: options.signal }),
  });
  if (options.signal?.aborted) throw new Error("received interrupt");
  if (result.exitCode === undefined)
    throw new Error(`cannot run ${file}: ${result.shortMessage ?? "it did not start"}`);
  return { exitCode: result.exitCode, stdout: result.stdout, stderr: result.stderr };
}

/** Like runProgram, and anything but exit code 0 is an error that quotes stderr. */
export async function mustRunProgram(argv: readonly string[], options: ProgramOptions = {}): Promise<Ran> {
  const ran = await runProgram(argv, options);
  if (ran.exitCode === 0) return ran;
  const said = ran.stderr.trim().slice(-500) || ran.stdout.trim().slice(-500);
  throw new Error(`command '${argv.slice(0, 6).join(" ")}' failed: exit code ${ran.exitCode}: ${said}`);
}

/** argv that runs a program as the containers' root: it can touch what is theirs, and nothing of the host. */
export function asContainerRoot(argv: readonly string[]): string[] {
  const map = `0:${ID_BASE}:${ID_COUNT}`;
  return ["/usr/bin/lxc-usernsexec", "-m", `u:${map}`, "-m", `g:${map}`, "--", ...argv];
}

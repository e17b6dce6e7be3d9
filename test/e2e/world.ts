import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The shipped program in the real lab, with an administrator's configuration of its own. */

export type Ran = { readonly code: number; readonly stdout: string; readonly stderr: string };
export type RunOptions = {
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string;
  readonly timeoutMs?: number;
  /** Called with the process once it runs: to interrupt it. */
  readonly started?: (pid: number) => void;
  /** Called with every piece of stderr. */
  readonly heard?: (text: string) => void;
};

const RUN_TIMEOUT_MS = 600_000;
/** Whose lab it is: by this a later run knows what a killed one left, and what another one uses. */
const OWN = `test-${process.pid}`;
const root = findRoot();
export const program = join(root, "dist/exitnode.js");

/** Why a test that makes keys out of the sources and types commands of the shipped program would prove nothing. */
export const cannotShip: string | false = isOlderThanSources() && "dist is older than src: node scripts/build.mjs ship";

function isOlderThanSources(): boolean {
  if (!existsSync(program)) return true;
  const shippedAt = statSync(program).mtimeMs;
  const names = readdirSync(join(root, "src"), { recursive: true }).map((name) => join(root, "src", String(name)));
  return names.some((path) => /\.(?:ts|c|h)$/.test(path) && statSync(path).mtimeMs > shippedAt);
}

export class World {
  readonly folder = mkdtempSync(join(tmpdir(), "exitnode-e2e-"));
  readonly env = { EXITNODE_CONFIG: join(this.folder, "config"), XDG_STATE_HOME: join(this.folder, "state") };

  #raised = false;

  /** A lab for this test alone. Somebody's own, with whatever is in it, is refused and left as it is. */
  async raiseLab(...options: readonly string[]): Promise<void> {
    const { raisedFor } = await this.json("lab", "status");
    if (typeof raisedFor === "string" && hasEnded(raisedFor)) await this.json("lab", "down", "--for", raisedFor);
    this.#raised = true;
    await this.json("lab", "up", "--for", OWN, ...options);
  }

  async run(argv: readonly string[], options: RunOptions = {}): Promise<Ran> {
    return run([process.execPath, program, ...argv], { ...options, env: { ...this.env, ...options.env } });
  }

  /** Expects success, and the value of --json. */
  async json(...argv: readonly string[]): Promise<Record<string, unknown>> {
    const { code, stdout, stderr } = await this.run([...argv, "--json"]);
    assert.equal(code, 0, `exitnode ${argv.join(" ")}: ${stdout}${stderr}`);
    return object(JSON.parse(stdout));
  }

  /** Expects a failure, and its --json form. */
  async fails(
    argv: readonly string[],
    options: RunOptions = {},
  ): Promise<{ code: string; message: string; advice: string }> {
    const { code, stdout, stderr } = await this.run([...argv, "--json"], options);
    assert.notEqual(code, 0, `exitnode ${argv.join(" ")} succeeded: ${stdout}`);
    const { error } = object(JSON.parse(stdout || `{"error":{"message":${JSON.stringify(stderr)}}}`));
    const { code: name = "", message = "", advice = "" } = object(error);
    return { code: String(name), message: String(message), advice: String(advice) };
  }

  /** Runs a command in a place of the lab, past the CLI: quick, and with nothing of ours in between. */
  async at(place: string, ...argv: readonly string[]): Promise<Ran> {
    return run(["ip", "netns", "exec", `exn-${place}`, ...argv]);
  }

  /** The program on the laptop. */
  async laptop(...argv: readonly string[]): Promise<Ran> {
    return this.run(["lab", "exec", "laptop", "--", "exitnode", ...argv]);
  }

  async laptopUp(name = "laptop"): Promise<void> {
    const { joinKey } = await this.json("key", "create", "--role", "device");
    const up = await this.run(["lab", "exec", "laptop", "--", "exitnode", "up", "--name", name], {
      env: { EXITNODE_JOIN_KEY: String(joinKey) },
    });
    assert.equal(up.code, 0, up.stderr);
  }

  /** Inside a container of pve1, as its root. */
  async inside(vmid: number, ...argv: readonly string[]): Promise<string> {
    const ran = await this.tryInside(vmid, ...argv);
    assert.equal(ran.code, 0, `${argv.join(" ")}: ${ran.stderr}`);
    return ran.stdout;
  }

  async tryInside(vmid: number, ...argv: readonly string[]): Promise<Ran> {
    const attach = [
      "lxc-attach",
      "-P",
      "/var/lib/exitnode-lab/pve/lxc",
      "-n",
      String(vmid),
      "--clear-env",
      "--",
      ...argv,
    ];
    return run(["nsenter", "--net=/run/netns/exn-pve1", ...attach]);
  }

  async close(): Promise<void> {
    if (this.#raised) await this.run(["lab", "down", "--for", OWN]);
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Whether it was a test's whose process is gone, or this one's own. */
function hasEnded(owner: string): boolean {
  const pid = /^test-(\d+)$/.exec(owner)?.[1];
  return pid !== undefined && (owner === OWN || !existsSync(`/proc/${pid}`));
}

export function run(argv: readonly string[], options: RunOptions = {}): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const [file = "", ...args] = argv;
    const child = spawn(file, args, { env: { ...process.env, ...options.env }, stdio: ["pipe", "pipe", "pipe"] });
    let stdout = "";
    let stderr = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
      options.heard?.(text);
    });
    child.stdin.on("error", () => undefined);
    child.stdin.end(options.input ?? "");
    const timer = setTimeout(() => child.kill("SIGKILL"), options.timeoutMs ?? RUN_TIMEOUT_MS);
    child.on("error", reject);
    child.on("close", (code) => {
      clearTimeout(timer);
      resolve({ code: code ?? 137, stdout, stderr });
    });
    if (child.pid !== undefined) options.started?.(child.pid);
  });
}

/** Asks again until it holds: for what another process is about to do, never for a duration. */
export async function eventually(what: string, holds: () => Promise<boolean>, withinMs: number): Promise<number> {
  const from = performance.now();
  while (!(await holds())) {
    if (performance.now() - from > withinMs) assert.fail(`${what}: not within ${withinMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return performance.now() - from;
}

export function object(value: unknown): Record<string, unknown> {
  assert.ok(value !== null && typeof value === "object", `expected an object, got ${JSON.stringify(value)}`);
  return value as Record<string, unknown>;
}

function findRoot(): string {
  for (let folder = dirname(fileURLToPath(import.meta.url)); folder !== "/"; folder = dirname(folder))
    if (existsSync(join(folder, "package.json")) && existsSync(join(folder, "scripts"))) return folder;
  throw new Error("no package.json above the test");
}

import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { localExec, mustRun } from "../../src/sys/exec.js";
import { localFiles } from "../../src/sys/files.js";
import type { SshTarget } from "../../src/sys/ssh.js";
import { ensureSshKey } from "../../src/sys/sshkey.js";
import { freePort } from "../coordinator/freeport.js";

/** Why a test against a real sshd cannot run here; undefined when it can. */
export const sshdMissing =
  process.getuid?.() !== 0
    ? "needs root to run sshd"
    : existsSync("/usr/sbin/sshd")
      ? undefined
      : "needs the Debian package openssh-server";

export type Sshd = { readonly target: SshTarget; readonly folder: string; close(): Promise<void> };

const START_MAX_MS = 60_000;

/** A real sshd on loopback with a configuration, host key and authorized key of its own; `more` are lines of it. */
export async function startSshd(more: readonly string[] = [], netns?: string): Promise<Sshd> {
  const folder = await mkdtemp(join(tmpdir(), "exn-sshd-"));
  const pair = await ensureSshKey(localFiles, join(folder, "client"));
  const hostKey = join(folder, "host");
  await mustRun(localExec, ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", hostKey]);
  const shown = await mustRun(localExec, ["ssh-keygen", "-lf", `${hostKey}.pub`]);
  await writeFile(join(folder, "authorized"), `${pair.publicKey}\n`, { mode: 0o600 });
  await mkdir("/run/sshd", { recursive: true });
  const port = await freePort();
  await writeFile(
    join(folder, "config"),
    [
      `ListenAddress 127.0.0.1:${port}`,
      `HostKey ${hostKey}`,
      `AuthorizedKeysFile ${join(folder, "authorized")}`,
      "PidFile none",
      "PermitRootLogin prohibit-password",
      "PasswordAuthentication no",
      "KbdInteractiveAuthentication no",
      "UsePAM no",
      "StrictModes no",
      "MaxSessions 4",
      "Subsystem sftp internal-sftp",
      ...more,
    ].join("\n"),
  );
  const [program = "", ...args] = [...inside(netns), "/usr/sbin/sshd", "-D", "-e", "-f", join(folder, "config")];
  const sshd = spawn(program, args, { stdio: "ignore" });
  await answering(port, sshd, netns);
  const target = {
    address: "127.0.0.1",
    port,
    user: "root",
    privateKey: pair.privateKey,
    hostKey: shown.split(" ")[1] ?? "",
  };
  return {
    target,
    folder,
    async close() {
      sshd.kill("SIGTERM");
      await rm(folder, { recursive: true, force: true });
    },
  };
}

const inside = (netns: string | undefined): string[] => (netns === undefined ? [] : ["ip", "netns", "exec", netns]);

/** A door on this loopback behind which a session of that sshd stands in another namespace, as inetd would open it. */
export function openDoor(sshd: Sshd, netns: string): Promise<{ readonly port: number; close(): void }> {
  const [program = "", ...args] = [...inside(netns), "/usr/sbin/sshd", "-i", "-f", join(sshd.folder, "config")];
  const server = createServer({ pauseOnConnect: true }, (socket) => {
    spawn(program, args, { stdio: [socket, socket, "ignore"] });
    socket.destroy();
  });
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      const port = typeof address === "object" && address !== null ? address.port : 0;
      resolve({ port, close: () => void server.close() });
    });
  });
}

/** Whether something listens on that loopback port of the namespace. */
async function listens(port: number, netns: string): Promise<boolean> {
  const probe = ["bash", "-c", `exec 3<>/dev/tcp/127.0.0.1/${port}`];
  return (await localExec.run([...inside(netns), ...probe])).exitCode === 0;
}

async function answering(port: number, sshd: ChildProcess, netns: string | undefined): Promise<void> {
  const deadline = performance.now() + START_MAX_MS;
  while (performance.now() < deadline && sshd.exitCode === null) {
    if (netns !== undefined) {
      if (await listens(port, netns)) return;
      await delay(20);
      continue;
    }
    const open = await new Promise<boolean>((resolve) => {
      const socket = connect(port, "127.0.0.1");
      socket.once("connect", () => {
        socket.destroy();
        resolve(true);
      });
      socket.once("error", () => resolve(false));
    });
    if (open) return;
    await delay(20);
  }
  throw new Error(`sshd did not answer on port ${port}; exit code ${sshd.exitCode}`);
}

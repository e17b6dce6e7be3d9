import ssh2, { type Client, type ClientChannel } from "ssh2";
import { Failure } from "../kit/failure.js";
import type { Millis } from "../kit/time.js";
import { EXEC_OUTPUT_BYTES_MAX, EXEC_TIMEOUT_MS, type Exec, type ExecOptions, type Ran } from "./exec.js";
import { sshFingerprint } from "./sshkey.js";
import { pushFiles, type RemoteFile } from "./sshpush.js";
import { NO_PROGRAM, remoteLine } from "./sshquote.js";

export type SshTarget = {
  readonly address: string;
  readonly port?: number;
  readonly user: string;
  readonly privateKey: string;
  /** SHA256 fingerprint of its ed25519 host key, known beforehand: nothing is trusted on first use. */
  readonly hostKey: string;
  /** Reached from there: the connection goes through this machine, which sees nothing but ciphertext. */
  readonly via?: SshTarget;
  readonly readyTimeoutMs?: Millis;
};

/** A machine over SSH: runs programs, takes files. One connection; the server's MaxSessions bounds what runs at once. */
export interface Ssh extends Exec {
  /** Each file is written beside its path, given owner and mode, and renamed. */
  push(files: readonly RemoteFile[], signal?: AbortSignal): Promise<void>;
  close(): void;
}

export const SSH_READY_TIMEOUT_MS: Millis = 10_000;
const KEEPALIVE_MS: Millis = 5_000;
const KEEPALIVES_MISSED_MAX = 4;

export async function openSsh(target: SshTarget, signal?: AbortSignal): Promise<Ssh> {
  const jump = target.via === undefined ? undefined : await connect(target.via, signal).catch(jumpFailed);
  const client = await (jump === undefined ? connect(target, signal) : connectThrough(jump, target, signal));
  const run = (argv: readonly string[], options: ExecOptions = {}): Promise<Ran> => runOver(client, argv, options);
  return {
    run,
    push: (files, stop) => pushFiles(client, { run }, files, stop),
    close: () => {
      client.end();
      jump?.end();
    },
  };
}

/** A code of its own: what is to be done about it is done at the jump host, and waiting for the target is no use. */
function jumpFailed(error: unknown): never {
  if (!(error instanceof Failure) || error.code === "interrupted") throw error;
  const advice: Record<string, string> = {
    "ssh-key-refused": "let our key in there: ssh-copy-id -f -i ssh_ed25519.pub, which is in the config folder",
    "ssh-refused": "is sshd running there, on that port?",
    "host-key-mismatch": "if it was installed anew, compare its key, then: exitnode host add NAME --ssh-jump TARGET",
  };
  throw new Failure("ssh-jump-failed", `the SSH jump host: ${error.message}`, {
    advice: advice[error.code] ?? error.advice,
    cause: error,
  });
}

/** The stream is opened by the jump host (RFC 4254 §7.2, direct-tcpip); what the target shows is judged here. */
async function connectThrough(jump: Client, target: SshTarget, signal: AbortSignal | undefined): Promise<Client> {
  try {
    const client = await connect(target, signal, await forwarded(jump, target));
    client.once("close", () => jump.end());
    return client;
  } catch (error) {
    jump.end();
    throw error;
  }
}

/** RFC 4254 §5.1: the server does not let anybody open such a channel. */
const ADMINISTRATIVELY_PROHIBITED = 1;

function forwarded(jump: Client, target: SshTarget): Promise<ClientChannel> {
  const port = target.port ?? 22;
  const via = target.via?.address ?? "";
  const waitMs = target.readyTimeoutMs ?? SSH_READY_TIMEOUT_MS;
  const fail = (code: string, why: string, advice: string, cause?: unknown): Failure =>
    new Failure(code, `${via} does not lead to ${target.address} port ${port}: ${why}`, { advice, cause });
  const look = `on ${via}: ssh-keyscan -t ed25519 -p ${port} ${target.address}`;
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(fail("ssh-unreachable", `no answer after ${waitMs} ms`, look)), waitMs);
    jump.forwardOut("127.0.0.1", 0, target.address, port, (error, stream) => {
      clearTimeout(timer);
      if (error === undefined) return resolve(stream);
      const reason = "reason" in error ? error.reason : undefined;
      if (reason === ADMINISTRATIVELY_PROHIBITED)
        reject(
          fail("ssh-jump-refused", "its sshd forwards nothing", `on ${via}: sshd -T | grep allowtcpforwarding`, error),
        );
      else reject(fail(/refused/i.test(error.message) ? "ssh-refused" : "ssh-unreachable", error.message, look, error));
    });
  });
}

function connect(target: SshTarget, signal: AbortSignal | undefined, sock?: ClientChannel): Promise<Client> {
  const client = new ssh2.Client();
  let seen: string | undefined;
  return new Promise((resolve, reject) => {
    const abort = (): void => {
      client.destroy();
      reject(new Failure("interrupted", `interrupted while connecting to ${target.address}`));
    };
    if (signal?.aborted) return abort();
    signal?.addEventListener("abort", abort, { once: true });
    client.once("ready", () => {
      signal?.removeEventListener("abort", abort);
      resolve(client);
    });
    // Stays for the connection's life: an error event nobody listens to would end the process.
    client.on("error", (error: Error) => {
      signal?.removeEventListener("abort", abort);
      client.destroy();
      reject(connectFailure(target, error, seen));
    });
    client.connect({
      host: target.address,
      port: target.port ?? 22,
      username: target.user,
      privateKey: target.privateKey,
      algorithms: { serverHostKey: ["ssh-ed25519"] },
      hostVerifier: (blob: Buffer) => {
        seen = sshFingerprint(blob);
        return seen === target.hostKey;
      },
      readyTimeout: target.readyTimeoutMs ?? SSH_READY_TIMEOUT_MS,
      ...(sock === undefined ? {} : { sock }),
      keepaliveInterval: KEEPALIVE_MS,
      keepaliveCountMax: KEEPALIVES_MISSED_MAX,
    });
    // A program's start and every piece of a file is a question of a few bytes: held back until the answer before is
    // acknowledged (RFC 896), each takes 40 ms more.
    client.setNoDelay(true);
  });
}

function connectFailure(target: SshTarget, error: Error, seen: string | undefined): Failure {
  const where = `${target.user}@${target.address}`;
  if (seen !== undefined && seen !== target.hostKey)
    return new Failure(
      "host-key-mismatch",
      `${target.address} shows the SSH host key ${seen}, expected ${target.hostKey}`,
      {
        advice: "look at the container's console on Proxmox: another machine may have taken its address",
        cause: error,
      },
    );
  const level = "level" in error ? String(error.level) : "";
  const code = "code" in error ? String(error.code) : "";
  if (level === "client-authentication")
    return new Failure("ssh-key-refused", `${where} refused our SSH key`, {
      advice: "is this the machine (and the config folder) that made the exit node? its key is in ssh_ed25519 there",
      cause: error,
    });
  if (code === "ECONNREFUSED")
    return new Failure("ssh-refused", `${target.address} refuses connections on port ${target.port ?? 22}`, {
      advice: "on the Proxmox host: pct exec VMID -- systemctl status ssh",
      cause: error,
    });
  return new Failure("ssh-unreachable", `cannot reach ${where} over SSH: ${error.message}`, {
    advice: `check that this machine has a route to ${target.address}: ping ${target.address}`,
    cause: error,
  });
}

function runOver(client: Client, argv: readonly string[], options: ExecOptions): Promise<Ran> {
  const name = argv[0] ?? "";
  const fail = (why: string, cause?: unknown): Failure =>
    new Failure("exec-failed", `cannot run ${name} over SSH: ${why}`, { cause });
  return new Promise((resolve, reject) => {
    if (options.signal?.aborted) return reject(fail("interrupted"));
    let channel: ClientChannel | undefined;
    const stop = (why: string): void => {
      finish();
      reject(fail(why));
      // KILL, since a program that ignores the end of its input would outlive a closed channel.
      channel?.signal("KILL");
      channel?.close();
    };
    const interrupt = (): void => stop("interrupted");
    const lost = (): void => stop("the connection was lost");
    const timeoutMs = options.timeoutMs ?? EXEC_TIMEOUT_MS;
    const timer = setTimeout(() => stop(`no end after ${timeoutMs} ms`), timeoutMs);
    const finish = (): void => {
      clearTimeout(timer);
      options.signal?.removeEventListener("abort", interrupt);
      client.removeListener("close", lost);
    };
    options.signal?.addEventListener("abort", interrupt, { once: true });
    client.once("close", lost);
    try {
      client.exec(remoteLine(argv, options.env), (error, opened) => {
        if (error !== undefined) {
          finish();
          return reject(fail(error.message, error));
        }
        channel = opened;
        collect(opened, stop, (exitCode, signalName, stdout, stderr) => {
          finish();
          if (exitCode === null) return reject(fail(`ended by ${signalName ?? "no exit code"}`));
          if (exitCode === 127 && stderr.startsWith(NO_PROGRAM)) return reject(fail("it is not installed there"));
          resolve({ exitCode, stdout, stderr });
        });
        // A program may end before it has read its input; that is no error of ours.
        opened.on("error", () => {});
        opened.end(options.input ?? "");
      });
    } catch (error) {
      finish();
      reject(fail(error instanceof Error ? error.message : String(error), error));
    }
  });
}

function collect(
  channel: ClientChannel,
  stop: (why: string) => void,
  done: (exitCode: number | null, signalName: string | undefined, stdout: string, stderr: string) => void,
): void {
  const chunks = { stdout: [] as Buffer[], stderr: [] as Buffer[] };
  let size = 0;
  let exit: { code: number | null; signalName: string | undefined } | undefined;
  const take = (into: Buffer[]) => (chunk: Buffer) => {
    into.push(chunk);
    size += chunk.length;
    if (size > EXEC_OUTPUT_BYTES_MAX) stop(`it printed more than ${EXEC_OUTPUT_BYTES_MAX} bytes`);
  };
  channel.on("data", take(chunks.stdout));
  channel.stderr.on("data", take(chunks.stderr));
  channel.on("exit", (code: number | null, signalName?: string) => {
    exit = { code, signalName };
  });
  channel.on("close", () =>
    done(
      exit?.code ?? null,
      exit?.signalName,
      Buffer.concat(chunks.stdout).toString("utf8"),
      Buffer.concat(chunks.stderr).toString("utf8"),
    ),
  );
}

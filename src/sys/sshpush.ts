import { randomBytes } from "node:crypto";
import { posix } from "node:path";
import type { Client, SFTPWrapper } from "ssh2";
import { Failure } from "../kit/failure.js";
import type { Exec } from "./exec.js";
import { mustRun } from "./exec.js";
import { quoteWord } from "./sshquote.js";

export type RemoteFile = {
  readonly path: string;
  readonly content: string | Uint8Array;
  readonly mode: number;
  /** "user:group", by name, as the remote machine knows them. */
  readonly owner: string;
};

const PUSH_TIMEOUT_MS = 120_000;
const SFTP_CLOSE_TIMEOUT_MS = 2_000;

/**
 * Three round trips for any number of files: folders by one script, contents over SFTP beside their final paths
 * (mode 0600 from the first byte), then owner, mode and rename by one script that stops at the first mishap.
 */
export async function pushFiles(
  client: Client,
  exec: Exec,
  files: readonly RemoteFile[],
  signal?: AbortSignal,
): Promise<void> {
  if (files.length === 0) return;
  const mark = randomBytes(6).toString("hex");
  const beside = files.map((file) => posix.join(posix.dirname(file.path), `.${posix.basename(file.path)}.${mark}`));
  const folders = [...new Set(files.map((file) => posix.dirname(file.path)))];
  const options = signal === undefined ? {} : { signal };
  await mustRun(exec, ["mkdir", "-p", "--", ...folders], options);
  const sftp = await openSftp(client);
  try {
    for (const [i, file] of files.entries()) {
      if (signal?.aborted) throw new Failure("interrupted", "interrupted while files were being pushed");
      await write(sftp, beside[i] ?? "", Buffer.from(file.content), file.mode);
    }
    const script = files.map((file, i) => {
      const from = quoteWord(beside[i] ?? "");
      const mode = (file.mode & 0o7777).toString(8);
      return `chown ${quoteWord(file.owner)} ${from}\nchmod ${mode} ${from}\nmv -fT ${from} ${quoteWord(file.path)}`;
    });
    // The trap works also when nobody is there any more to send a second command.
    const tidy = `trap ${quoteWord(`rm -f -- ${beside.map(quoteWord).join(" ")}`)} EXIT`;
    await mustRun(exec, ["sh", "-s"], { ...options, input: `set -e\n${tidy}\n${script.join("\n")}\n` });
  } catch (error) {
    // What was not renamed is ours to take away; a connection lost before leaves a hidden file the next push ignores.
    await exec.run(["rm", "-f", "--", ...beside]).catch(() => undefined);
    throw error;
  } finally {
    await closed(sftp);
  }
}

/** Waited for: until then it counts among the sessions that the server lets a connection have (sshd's MaxSessions). */
function closed(sftp: SFTPWrapper): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, SFTP_CLOSE_TIMEOUT_MS);
    sftp.once("close", () => {
      clearTimeout(timer);
      resolve();
    });
    sftp.end();
  });
}

function openSftp(client: Client): Promise<SFTPWrapper> {
  return new Promise((resolve, reject) => {
    client.sftp((error, sftp) =>
      error === undefined
        ? resolve(sftp)
        : reject(new Failure("push-failed", `no SFTP session: ${error.message}`, { cause: error })),
    );
  });
}

function write(sftp: SFTPWrapper, path: string, content: Buffer, mode: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(new Failure("push-failed", `writing ${path} did not end after ${PUSH_TIMEOUT_MS} ms`));
    }, PUSH_TIMEOUT_MS);
    // "wx": a file somebody planted under that name is not followed or reused.
    sftp.writeFile(path, content, { mode: mode & 0o600, flag: "wx" }, (error) => {
      clearTimeout(timer);
      if (error === null || error === undefined) resolve();
      else reject(new Failure("push-failed", `cannot write ${path}: ${error.message}`, { cause: error }));
    });
  });
}

import ssh2 from "ssh2";
import { Failure } from "../kit/failure.js";
import { SSH_READY_TIMEOUT_MS } from "./ssh.js";
import { sshFingerprint } from "./sshkey.js";

/** The fingerprint of the ed25519 host key that a machine shows now: for a person to compare before it is pinned. */
export function shownHostKey(address: string, port: number, signal?: AbortSignal): Promise<string> {
  const client = new ssh2.Client();
  return new Promise((resolve, reject) => {
    let seen: string | undefined;
    const end = (why: string, cause?: unknown): void => {
      signal?.removeEventListener("abort", cancel);
      client.destroy();
      if (seen !== undefined) resolve(seen);
      else
        reject(
          new Failure("ssh-unreachable", `no SSH host key was shown by ${address} port ${port}: ${why}`, {
            advice: `is sshd running there, with an ed25519 host key? ssh-keyscan -t ed25519 -p ${port} ${address}`,
            cause,
          }),
        );
    };
    const cancel = (): void => end("interrupted");
    if (signal?.aborted) return cancel();
    signal?.addEventListener("abort", cancel, { once: true });
    // Stays: an error event nobody listens to would end the process.
    client.on("error", (error: Error) => end(error.message, error));
    client.connect({
      host: address,
      port,
      username: "nobody",
      algorithms: { serverHostKey: ["ssh-ed25519"] },
      // Nothing but the key is wanted: refusing it ends the connection before anything is told of us.
      hostVerifier: (blob: Buffer) => {
        seen = sshFingerprint(blob);
        return false;
      },
      readyTimeout: SSH_READY_TIMEOUT_MS,
    });
  });
}

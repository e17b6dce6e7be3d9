import { join } from "node:path";
import { Failure } from "../kit/failure.js";
import { openSsh, type Ssh, type SshTarget } from "../sys/ssh.js";
import { shownHostKey } from "../sys/sshhostkey.js";
import { ensureSshKey } from "../sys/sshkey.js";
import type { Call } from "./command.js";
import { HOST_KEY_PATTERN, readConfig, SSH_TARGET_PATTERN, writeConfig } from "./config.js";

/** Root on a machine of one's own over SSH, with a host key that is known before anything is sent. */
export type MachineLogin = { readonly ssh: Ssh; readonly host: string; readonly where: string };

const SSH_PORT = 22;

export async function loginToMachine(call: Call, option = "--ssh"): Promise<MachineLogin> {
  const { parts, options, signal } = call;
  const { files, paths } = parts;
  const { user, host, port, pinName } = targetOf(options.ssh, option);
  const where = `${user}@${host}`;
  const known = (await readConfig(files, paths.config)).sshHosts?.[pinName];
  const hostKey = givenHostKey(options.hostKey) ?? known?.hostKey ?? (await confirmedHostKey(call, host, port));
  const target = { address: host, port, user, privateKey: await privateKey(call), hostKey };
  const ssh = await openSsh(target, signal).catch((error: unknown) => {
    throw advised(error, {
      where,
      port,
      hostKeyKnown: known !== undefined,
      publicKeyPath: join(paths.config, "ssh_ed25519.pub"),
    });
  });
  if (known?.hostKey !== hostKey) {
    const config = await readConfig(files, paths.config);
    await writeConfig(files, paths.config, { ...config, sshHosts: { ...config.sshHosts, [pinName]: { hostKey } } });
  }
  return { ssh, host, where };
}

/** A machine that was logged in to before, by what the config says of it; nobody is asked anything. */
export async function knownMachine({ parts, options }: Call, text: string, hostName: string): Promise<SshTarget> {
  const { files, paths } = parts;
  const { user, host, port, pinName } = targetOf(text, "ssh.jump");
  const hostKey = (await readConfig(files, paths.config)).sshHosts?.[pinName]?.hostKey;
  if (hostKey === undefined)
    throw new Failure("host-key-unconfirmed", `the config names ${text} to go through, but not its SSH host key`, {
      advice: `exitnode host add ${hostName} --ssh-jump ${text}`,
    });
  return { address: host, port, user, privateKey: await privateKey({ parts, options }), hostKey };
}

type Target = { readonly user: string; readonly host: string; readonly port: number; readonly pinName: string };

function targetOf(given: unknown, option: string): Target {
  const match = SSH_TARGET_PATTERN.exec(String(given ?? ""));
  if (match === null) throw new Failure("usage", `expected ${option} root@host, got "${String(given ?? "nothing")}"`);
  const host = (match[2] ?? "").replace(/^\[|\]$/g, "");
  const port = Number(match[3] ?? SSH_PORT);
  const pinName = port === SSH_PORT ? host : `${host.includes(":") ? `[${host}]` : host}:${port}`;
  return { user: match[1] ?? "root", host, port, pinName };
}

function givenHostKey(given: unknown): string | undefined {
  if (typeof given !== "string") return undefined;
  if (HOST_KEY_PATTERN.test(given)) return given;
  throw new Failure("usage", `expected --host-key as ssh-keygen -l prints it, SHA256:…, got "${given}"`);
}

async function confirmedHostKey({ parts, signal }: Call, host: string, port: number): Promise<string> {
  const seen = await shownHostKey(host, port, signal);
  const compare = "compare it on the machine's console: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub";
  if (!parts.interactive)
    throw new Failure("host-key-unconfirmed", `nobody confirmed that ${seen} is the SSH host key of ${host}`, {
      advice: `${compare}, then add: --host-key ${seen}`,
    });
  parts.say(`${host} shows the SSH host key\n  ${seen}\n${compare}`);
  const { terminalPrompt } = await import("../sys/prompt.js");
  if (await terminalPrompt(signal).confirm("Is it the same?")) return seen;
  throw new Failure("host-key-mismatch", `the SSH host key of ${host} was not confirmed; nothing was sent or kept`);
}

async function privateKey({ parts, options }: Pick<Call, "parts" | "options">): Promise<string> {
  const { files, paths } = parts;
  if (typeof options.identity !== "string") return (await ensureSshKey(files, paths.config)).privateKey;
  const text = await files.readText(options.identity);
  if (text === undefined) throw new Failure("usage", `there is no key in ${options.identity}`);
  return text;
}

/** What an exit node's container would be advised does not help with a rented server. */
function advised(
  error: unknown,
  about: {
    readonly where: string;
    readonly port: number;
    readonly hostKeyKnown: boolean;
    readonly publicKeyPath: string;
  },
): unknown {
  if (!(error instanceof Failure)) return error;
  const port = about.port === SSH_PORT ? "" : `-p ${about.port} `;
  const advice: Record<string, string> = {
    "ssh-key-refused": `let our key in: ssh-copy-id -f ${port}-i ${about.publicKeyPath} ${about.where}\nor name yours: --identity <FILE>`,
    "ssh-refused": `is sshd running there, on port ${about.port}?`,
    "host-key-mismatch": about.hostKeyKnown
      ? "another machine may have taken its address; if it was installed anew, give its new key with --host-key"
      : "compare the key on the machine's console: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub",
  };
  const better = advice[error.code];
  return better === undefined ? error : new Failure(error.code, error.message, { advice: better, cause: error });
}

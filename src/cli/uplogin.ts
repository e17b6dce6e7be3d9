import { lchown } from "node:fs/promises";
import { join } from "node:path";
import { loadIdentity } from "../agent/identity.js";
import { Failure } from "../kit/failure.js";
import { type Key, parseKey } from "../kit/key.js";
import { type Millis, SECOND } from "../kit/time.js";
import type { User } from "../sys/users.js";
import { dialWebSocket } from "../sys/websocket.js";
import { version } from "../version.js";
import { API_PREFIX } from "../wire/adminapi.js";
import { type AgentConfig, agentConfig, DEVICE_FILES } from "../wire/agentconfig.js";
import { networkIdentity } from "../wire/identity.js";
import { parseWith } from "../wire/schema.js";
import { deviceConfig } from "./agentfiles.js";
import type { Call, Parts } from "./command.js";
import { signInMachine } from "./machinesignin.js";

/** `up --login`: this machine joins by a person's sign-in instead of a join key. */

const ANSWER_TIMEOUT_MS: Millis = 10 * SECOND;

/** The device's configuration, with the coordinator's key by its certificate, or by `--key`. */
export async function loginConfig(
  { options, signal }: Pick<Call, "options" | "signal">,
  wanted: { readonly name: string | undefined; readonly dataPlane: string | undefined },
): Promise<AgentConfig> {
  const { login, key } = options;
  if (typeof login !== "string" || !URL.canParse(login) || new URL(login).protocol !== "https:")
    throw new Failure("usage", `expected --login https://<coordinator>, got "${String(login)}"`);
  const url = new URL(login).origin;
  const coordinator =
    typeof key === "string"
      ? { urls: [url], publicKey: parseKey(key) }
      : await identityBehind(url, AbortSignal.any([signal, AbortSignal.timeout(ANSWER_TIMEOUT_MS)]));
  return deviceConfig(coordinator, wanted);
}

/** Asks until a person has confirmed this machine; what to open and to compare is said on the way. */
export async function signIn(
  { parts, signal }: Pick<Call, "parts" | "signal">,
  config: AgentConfig,
  user: User,
): Promise<void> {
  const identity = await loadIdentity(parts.files, parts.random, parts.paths.var);
  await giveKeys(parts, user);
  await signInMachine(
    { dial: dialWebSocket, clock: parts.clock, random: parts.random },
    {
      urls: config.coordinator.urls,
      coordinatorKey: config.coordinator.publicKey,
      machineKey: identity.machine,
      hello: {
        agentVersion: version,
        name: config.name,
        publicKey: identity.wireguard.offered,
        report: { endpoints: [], routes: [], resolvers: [] },
      },
    },
    ({ url, code }) =>
      parts.say(
        `to let this machine in, open this in a browser, on any device:\n\n  ${url}\n\nand compare the code:  ${code}\n\nwaiting …`,
      ),
    signal,
  );
  parts.say("signed in");
}

/** Root has made them, and the agent reads them. */
async function giveKeys(parts: Parts, user: User): Promise<void> {
  for (const name of [DEVICE_FILES.machineKey, DEVICE_FILES.wireguardKey, DEVICE_FILES.lockKey, "discovery.key"])
    await lchown(join(parts.paths.var, name), user.uid, user.gid);
}

/** What a certificate that any browser would trust vouches for. */
async function identityBehind(url: string, signal: AbortSignal): Promise<{ urls: string[]; publicKey: Key }> {
  const answer = await fetch(`${url}${API_PREFIX}/network`, { signal, redirect: "error" }).catch((cause: unknown) => {
    throw untrusted(url, cause);
  });
  if (!answer.ok)
    throw new Failure("coordinator-strange", `${url} answered HTTP ${answer.status}, not as a coordinator does`, {
      advice: "check the URL with whoever administers the network",
    });
  const value: unknown = await answer.json().catch(() => undefined);
  const { urls, publicKey } = parseWith(networkIdentity, value, "the coordinator's answer", "coordinator-strange");
  const { coordinator } = agentConfig.shape;
  return parseWith(
    coordinator,
    { urls: [...new Set([url, ...urls])].slice(0, 8), publicKey },
    "the coordinator's answer",
    "coordinator-strange",
  );
}

function untrusted(url: string, cause: unknown): Failure {
  const inner = cause instanceof Error ? cause.cause : undefined;
  const code = inner instanceof Error && "code" in inner ? String(inner.code) : "";
  if (/CERT|SELF_SIGNED|ISSUER|SIGNATURE|ALTNAME/.test(code))
    return new Failure("certificate-untrusted", `no public authority vouches for the certificate of ${url} (${code})`, {
      cause,
      advice:
        "give the coordinator's public key, as `exitnode coordinator status` shows it: exitnode up --login URL --key KEY",
    });
  return new Failure("coordinator-unreachable", `${url} does not answer${code === "" ? "" : ` (${code})`}`, {
    cause,
    advice: "check the URL, and that this machine is online",
  });
}

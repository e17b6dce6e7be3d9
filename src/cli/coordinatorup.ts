import { Failure } from "../kit/failure.js";
import { type Millis, SECOND } from "../kit/time.js";
import { readTemplates } from "../netconf/containerfiles.js";
import { callOverSsh } from "../provision/admin.js";
import { putService } from "../provision/machine.js";
import type { Progress } from "../provision/parts.js";
import { COORDINATOR_BUNDLES, coordinatorService } from "../provision/services.js";
import { openHttps } from "../sys/https.js";
import type { Ssh } from "../sys/ssh.js";
import { type CoordinatorStatus, coordinatorStatus } from "../wire/adminapi.js";
import { parseWith } from "../wire/schema.js";
import type { Call, Outcome } from "./command.js";
import { readConfig } from "./config.js";
import { coordinatorBook } from "./createparts.js";
import { stepProgress } from "./createprogress.js";
import { loginToMachine } from "./machinelogin.js";
import { portOf, readBundles, sha256Hex, stunPortsFrom, templateOf, urlFor } from "./servicefiles.js";
import { whoamiToTell } from "./whoamiurls.js";

const HEALTH_WAIT_MS: Millis = 30 * SECOND;
const HEALTH_POLL_MS: Millis = 300;
const REACH_TIMEOUT_MS: Millis = 5 * SECOND;
const MEMORY_STEP_MIB = 256;
/** `uname -m` where this program's native parts run. */
const ARCHITECTURES: Record<string, string> = { x64: "x86_64", arm64: "aarch64" };

/** Puts a coordinator, with its relay and STUN, on a machine of one's own, or puts right the one that is there. */
export async function coordinatorUp(call: Call): Promise<Outcome> {
  const { parts, options } = call;
  const progress = await stepProgress(parts);
  const { ssh, host, where } = await loginToMachine(call);
  try {
    const given = Array.isArray(options.url) ? options.url : [];
    const book = coordinatorBook(call);
    const adminTokenSha256 = sha256Hex(await book.adminToken());
    const before = await statusOver(ssh).catch(() => undefined);
    const record = await book.record();
    if (record !== undefined && record.publicKey !== before?.publicKey && !(await holdsToken(ssh, adminTokenSha256)))
      throw new Failure(
        "coordinator-set",
        `the config names another coordinator than the one on ${where}: it is at ${record.urls[0] ?? "no URL"}`,
        { advice: "use that one, or strike it out when it is gone: exitnode coordinator forget" },
      );
    // Without --url it keeps the URLs it has: they are in its devices' hands.
    const kept = before?.urls ?? record?.urls ?? [urlFor(undefined, host)];
    const urls = given.length === 0 ? kept : given.map((one) => urlFor(one, host));
    const { changes, status, values } = await putCoordinator(call, progress, { ssh, where }, urls);
    const { publicKey, tlsFingerprint } = status;
    const found = { urls, adminUrls: urls, publicKey, tlsFingerprint };
    if (JSON.stringify(record) !== JSON.stringify(found)) {
      await book.keep(found);
      changes.push("noted it in config.yaml");
    }
    const unreached = await unreachedFrom(call, urls, tlsFingerprint);
    const value = {
      machine: where,
      changed: changes.length > 0,
      changes,
      urls,
      publicKey,
      tlsFingerprint,
      admissionKey: status.admissionKey,
      stunPort: values.stunPort,
      otherStunPort: values.otherStunPort,
      unreached,
    };
    return { value, text: upText(value) };
  } finally {
    ssh.close();
  }
}

/** Makes the machine run a coordinator that is reached at the URLs; fulfilled when it answers. */
export async function putCoordinator(
  call: Call,
  progress: Progress,
  { ssh, where }: { readonly ssh: Ssh; readonly where: string },
  urls: readonly string[],
) {
  const { parts, options, signal } = call;
  const values = {
    port: portOf(urls[0] ?? ""),
    ...stunPortsFrom(options.stunPort),
    urls: [...urls],
    whoami: whoamiToTell(parts.env.EXITNODE_WHOAMI, (await readConfig(parts.files, parts.paths.config)).hosts),
    adminTokenSha256: sha256Hex(await coordinatorBook(call).adminToken()),
  };
  const templates = await readTemplates(templateOf(parts));
  const bundles = await readBundles(parts, COORDINATOR_BUNDLES);
  const architecture = ARCHITECTURES[process.arch] ?? process.arch;
  const machine = { architecture, memoryMiB: await memoryOf(ssh) };
  const service = coordinatorService(templates, bundles, values, machine, sha256Hex);
  const changes = await putService({ ssh, progress, signal, where }, service);
  const status = await progress.step(`wait for the coordinator on ${where}`, () => healthy(call, ssh));
  return { changes, status, values };
}

/** As it was bought: what the kernel keeps to itself differs from one to the next. */
async function memoryOf(ssh: Ssh): Promise<number> {
  const { stdout } = await ssh.run(["cat", "/proc/meminfo"]);
  const kibibytes = Number(/^MemTotal:\s+(\d+) kB$/m.exec(stdout)?.[1] ?? 0);
  return Math.max(MEMORY_STEP_MIB, Math.round(kibibytes / 1_024 / MEMORY_STEP_MIB) * MEMORY_STEP_MIB);
}

/** Whether the machine's coordinator, running or not, is the one that takes our admin token. */
async function holdsToken(ssh: Ssh, tokenSha256: string): Promise<boolean> {
  return (await ssh.run(["grep", "-qF", tokenSha256, "/etc/exitnode/coordinator.yaml"])).exitCode === 0;
}

export async function statusOver(ssh: Ssh): Promise<CoordinatorStatus> {
  return parseWith(coordinatorStatus, await callOverSsh(ssh, "GET", "/status"), "the coordinator's answer");
}

export async function healthy({ parts: { clock }, signal }: Call, ssh: Ssh): Promise<CoordinatorStatus> {
  const startedAt = clock.now();
  for (;;) {
    try {
      return await statusOver(ssh);
    } catch (error) {
      if (clock.now() - startedAt >= HEALTH_WAIT_MS) throw error;
      await clock.sleep(HEALTH_POLL_MS, signal);
    }
  }
}

/** URLs behind which this machine does not find the coordinator: a provider's firewall, or a name that is not there yet. */
async function unreachedFrom({ signal }: Call, urls: readonly string[], fingerprint: string): Promise<string[]> {
  const https = openHttps();
  try {
    const found = await Promise.all(
      urls.map((url) =>
        https.peerFingerprint(url, { deadlineMs: REACH_TIMEOUT_MS, signal }).then(
          (seen) => seen === fingerprint,
          () => false,
        ),
      ),
    );
    return urls.filter((_, i) => found[i] !== true);
  } finally {
    https.close();
  }
}

function upText(up: {
  readonly machine: string;
  readonly changed: boolean;
  readonly urls: readonly string[];
  readonly stunPort: number;
  readonly otherStunPort: number;
  readonly unreached: readonly string[];
}): string {
  const lines = [
    up.changed
      ? `the coordinator on ${up.machine} works: ${up.urls.join(" ")}`
      : `nothing to do: the coordinator on ${up.machine} is as wanted`,
    ...up.unreached.map((url) => `not reached from here: ${url}; a firewall may have to let in tcp/${portOf(url)}`),
  ];
  if (up.changed)
    lines.push(
      `a relay and STUN (udp/${up.stunPort} and udp/${up.otherStunPort}) run beside it`,
      "next: exitnode create --host <host>",
    );
  return lines.join("\n");
}

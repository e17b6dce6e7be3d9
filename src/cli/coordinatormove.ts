import * as z from "zod";
import { Failure } from "../kit/failure.js";
import { type Millis, SECOND } from "../kit/time.js";
import { callOverSsh } from "../provision/admin.js";
import type { Progress } from "../provision/parts.js";
import type { Clock } from "../sys/clock.js";
import type { Ssh } from "../sys/ssh.js";
import { type CoordinatorStatus, deviceInfo } from "../wire/adminapi.js";
import { parseWith } from "../wire/schema.js";
import type { Call, Outcome } from "./command.js";
import { backupOver, restoreOver, service } from "./coordinatorkeep.js";
import { withMachine } from "./coordinatorplace.js";
import { healthy, putCoordinator, statusOver } from "./coordinatorup.js";
import { coordinatorBook } from "./createparts.js";
import { stepProgress } from "./createprogress.js";
import { hostOf, urlFor } from "./servicefiles.js";

/** A machine that a coordinator is moved from or to. */
export type CoordinatorMachine = {
  readonly where: string;
  status(): Promise<CoordinatorStatus>;
  /** Members that are not connected, by name. */
  away(): Promise<string[]>;
  /** Runs a coordinator that is reached at the URLs. */
  put(urls: readonly string[]): Promise<void>;
  /** It stays stopped, also when the machine starts anew. */
  stop(): Promise<void>;
  start(): Promise<void>;
  backup(): Promise<Uint8Array>;
  /** Fulfilled when the coordinator of the backup answers. */
  restore(backup: Uint8Array): Promise<void>;
};

export type MoveParts = { readonly progress: Progress; readonly clock: Clock; readonly signal: AbortSignal };

/** How long the devices that were there may take to come back and hear of the new URLs. */
export const RETURN_WAIT_MS: Millis = 60 * SECOND;
const RETURN_POLL_MS: Millis = 250;
const URLS_MAX = 8;

export type Moved = {
  readonly status: CoordinatorStatus;
  readonly urls: readonly string[];
  readonly away: readonly string[];
};

/**
 * Devices are told of the new URLs while the old coordinator still runs. Then it stops, so that nothing is changed that
 * would be lost, and the other machine becomes it. Until that one answers, the old one can start again, and does.
 */
export async function moveCoordinator(
  { progress, clock, signal }: MoveParts,
  from: CoordinatorMachine,
  to: CoordinatorMachine,
  urls: readonly string[],
  evenAway: boolean,
): Promise<Moved> {
  const before = await from.status();
  const all = [...new Set([...before.urls, ...urls])];
  if (all.length > URLS_MAX)
    throw new Failure("usage", `expected at most ${URLS_MAX} URLs, the old ones included, got ${all.length}`);
  const news = all.length > before.urls.length;
  const away = news ? await from.away() : [];
  if (away.length > 0 && !evenAway)
    throw new Failure(
      "devices-away",
      `${away.length} devices are away and would not learn the new URL: ${listed(away)}`,
      {
        advice: `wait until they have been there with both URLs: exitnode coordinator up --ssh ${from.where} ${all.map((url) => `--url ${url}`).join(" ")}\nor move now, and let them join anew: add --yes`,
      },
    );
  if (news) {
    await from.put(all);
    await progress.step("wait until the devices have heard of the new URL", async () => {
      const startedAt = clock.now();
      while ((await from.status()).online < before.online && clock.now() - startedAt < RETURN_WAIT_MS)
        await clock.sleep(RETURN_POLL_MS, signal);
    });
  }
  await to.put(urls);
  await progress.step(`stop the coordinator on ${from.where}`, () => from.stop());
  try {
    const backup = await progress.step(`take what ${from.where} holds`, () => from.backup());
    const status = await progress.step(`make ${to.where} the coordinator`, async () => {
      await to.restore(backup);
      return to.status();
    });
    if (status.publicKey !== before.publicKey)
      throw new Failure("move-failed", `${to.where} runs another coordinator than the one that was moved`);
    return { status, urls, away };
  } catch (error) {
    // Two of them would hand out the same addresses: the new one is stopped before the old one starts.
    await to.stop().catch(() => undefined);
    await from.start();
    throw error;
  }
}

export async function coordinatorMove(call: Call): Promise<Outcome> {
  const { options, parts, signal } = call;
  const progress = await stepProgress(parts);
  return withMachine(call, "--ssh", (old) =>
    withMachine(call, "--to", async (fresh) => {
      const from = overSsh(call, progress, old);
      const to = overSsh(call, progress, fresh);
      const before = await from.status();
      const given = Array.isArray(options.url) ? options.url : [];
      // A URL with the old machine's own address would lead nowhere; a name is led to the new machine.
      const kept = before.urls.map((url) => (hostOf(url) === old.host ? replaceHost(url, fresh.host) : url));
      const urls = given.length === 0 ? kept : given.map((one) => urlFor(one, fresh.host));
      const { status, away } = await moveCoordinator(
        { progress, clock: parts.clock, signal },
        ...([from, to, urls, options.yes === true] as const),
      );
      const { publicKey, tlsFingerprint } = status;
      await coordinatorBook(call).keep({ urls: [...urls], adminUrls: [...urls], publicKey, tlsFingerprint });
      const value = { from: old.where, to: fresh.where, urls, devices: status.devices, away };
      const named = urls.filter((url) => before.urls.includes(url));
      const lines = [
        `the coordinator of ${status.devices} devices is on ${fresh.where} now: ${urls.join(" ")}`,
        `on ${old.where} it is stopped and does not start again; its files are still there`,
        ...(named.length === 0 ? [] : [`let ${named.map(hostOf).join(", ")} lead to ${fresh.host} now, in DNS`]),
        ...(away.length === 0 ? [] : [`have to join anew, unless they were told before: ${listed(away)}`]),
      ];
      return { value, text: lines.join("\n") };
    }),
  );
}

function overSsh(
  call: Call,
  progress: Progress,
  { ssh, where }: { readonly ssh: Ssh; readonly where: string },
): CoordinatorMachine {
  const { signal } = call;
  const devices = z.object({ devices: z.array(deviceInfo) });
  return {
    where,
    status: () => statusOver(ssh),
    async away() {
      const answer = parseWith(devices, await callOverSsh(ssh, "GET", "/devices"), "the coordinator's answer");
      return answer.devices
        .filter(({ online, revokedAtMs }) => !online && revokedAtMs === undefined)
        .map(({ name }) => name);
    },
    async put(urls) {
      await putCoordinator(call, progress, { ssh, where }, urls);
    },
    async stop() {
      await service(ssh, "stop", signal);
      await service(ssh, "disable", signal);
    },
    async start() {
      await service(ssh, "enable", signal);
      await service(ssh, "start", signal);
    },
    backup: async () => (await backupOver(ssh, signal)).bytes,
    async restore(backup) {
      await restoreOver(ssh, backup, signal);
      await healthy(call, ssh);
    },
  };
}

function replaceHost(url: string, host: string): string {
  const moved = new URL(url);
  moved.hostname = host.includes(":") ? `[${host}]` : host;
  return moved.origin;
}

const NAMED_MAX = 8;
const listed = (names: readonly string[]): string =>
  names.length <= NAMED_MAX
    ? names.join(", ")
    : `${names.slice(0, NAMED_MAX).join(", ")} and ${names.length - NAMED_MAX} more`;

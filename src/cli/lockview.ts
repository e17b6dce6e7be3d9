import * as z from "zod";
import { Failure } from "../kit/failure.js";
import { tryKey } from "../kit/key.js";
import { type DeviceInfo, deviceInfo, SIGNATURES_MAX, type SignatureEntry } from "../wire/adminapi.js";
import { type LockAnswer, lockAnswer, lockSignAnswer } from "../wire/agentsocket.js";
import {
  type DeviceLock,
  endsLock,
  type MapLock,
  mapLock,
  readRecord,
  type Standing,
  standingOf,
  type Trust,
} from "../wire/lock.js";
import { callCoordinator, listAll } from "./admin.js";
import { askLock, notRunning, tryAskLock } from "./agentclient.js";
import type { Call } from "./command.js";

/** The device lock seen from here: what this machine's agent has verified, and what the coordinator says. */

/** A device that can be signed for. */
export type Signable = DeviceInfo & { readonly lock: DeviceLock };

/** What changes the lock is done with: an agent that is in the network, and an administrator's coordinator. */
export type Desk = {
  readonly own: LockAnswer;
  /** As this device has verified it; undefined: there is no lock. */
  readonly trust: Trust | undefined;
  readonly devices: readonly DeviceInfo[];
};

export const trustIn = ({ records }: { readonly records: readonly string[] }): Trust | undefined =>
  readRecord(records.at(-1) ?? "");

export const lockOf = (call: Call): Promise<MapLock> => callCoordinator(call, mapLock, "GET", "/lock");

/** Those that are in or want to be. */
export async function devicesOf(call: Call): Promise<DeviceInfo[]> {
  const all = await listAll(call, "/devices", "devices", deviceInfo);
  return all.filter(({ revokedAtMs }) => revokedAtMs === undefined);
}

/** How a device stands to the lock: worked out here, for the coordinator's word is what the lock does without. */
export function standingIn(trust: Trust, device: DeviceInfo): Standing {
  const publicKey = tryKey(device.publicKey);
  const discoveryKey = device.discoveryKey === undefined ? undefined : tryKey(device.discoveryKey);
  return publicKey === undefined ? "other-keys" : standingOf(trust, { publicKey, discoveryKey, lock: device.lock });
}

/** Agent and coordinator, brought to the same records: one of them may have been away, or restored from a backup. */
export async function openDesk(call: Call): Promise<Desk> {
  const { paths } = call.parts;
  const before = await tryAskLock(paths);
  if (before === undefined) throw notRunning();
  const [there, devices] = await Promise.all([lockOf(call), devicesOf(call)]);
  const own =
    there.records.length === 0 ? before : await askLock(paths, { do: "lock-take", records: there.records }, lockAnswer);
  const trust = trustIn(own);
  const ended = there.ended ?? [];
  if (trust === undefined || ended.some(({ lock, secret }) => lock === trust.lock && endsLock(trust, secret)))
    return { own, trust: undefined, devices };
  const theirs = trustIn(there);
  if (theirs !== undefined && (theirs.lock !== trust.lock || theirs.version > trust.version))
    throw new Failure("lock-differs", "the coordinator's list of trusted devices does not follow on this device's", {
      advice: "exitnode lock status    (here and on the other trusted devices: which of them do you know?)",
    });
  if (theirs?.version !== trust.version) {
    for (const record of own.records)
      if ((readRecord(record)?.version ?? 0) > (theirs?.version ?? 0))
        await callCoordinator(call, mapLock, "POST", "/lock", { record });
    call.parts.say("the coordinator had an older list of trusted devices, and has got this device's");
  }
  return { own, trust, devices };
}

/** The same where there has to be a lock, of which this device is a trusted one. */
export async function openTrustedDesk(call: Call): Promise<Desk & { readonly trust: Trust }> {
  const desk = await openDesk(call);
  const { own, trust } = desk;
  if (trust === undefined)
    throw new Failure("lock-off", "this network has no device lock", { advice: "exitnode lock enable" });
  if (!trust.keys.includes(own.key))
    throw new Failure("lock-untrusted", "this device is not one of the trusted devices: its signature counts nowhere", {
      advice: "run this on a trusted device; which those are: exitnode lock status",
    });
  return { ...desk, trust };
}

/** This device's signatures for others. */
export async function signaturesFor(call: Call, lock: string, devices: readonly Signable[]): Promise<SignatureEntry[]> {
  const entries: SignatureEntry[] = [];
  for (let at = 0; at < devices.length; at += SIGNATURES_MAX) {
    const some = devices.slice(at, at + SIGNATURES_MAX);
    const keys = some.map((device) => device.lock.key);
    const { signatures } = await askLock(call.parts.paths, { do: "lock-sign", lock, keys }, lockSignAnswer);
    entries.push(...some.map(({ id }, i) => ({ device: id, signature: signatures[i] ?? "" })));
  }
  return entries;
}

export async function handIn(call: Call, signatures: readonly SignatureEntry[]): Promise<void> {
  for (let at = 0; at < signatures.length; at += SIGNATURES_MAX)
    await callCoordinator(call, z.unknown(), "POST", "/lock/signatures", {
      signatures: signatures.slice(at, at + SIGNATURES_MAX),
    });
}

export const isSignable = (device: DeviceInfo): device is Signable => device.lock !== undefined;

/** By id or name. */
export function signableIn(devices: readonly DeviceInfo[], idOrName: string): Signable {
  const found = devices.find(({ id, name }) => id === idOrName || name === idOrName);
  if (found === undefined)
    throw new Failure("device-unknown", `no device is called "${idOrName}"`, { advice: "exitnode lock status" });
  if (isSignable(found)) return found;
  throw new Failure(
    "lock-key-unknown",
    `${found.name} has no lock key: its agent (${found.agentVersion}) is an older one`,
    {
      advice: `bring it up to date and start it once, then: exitnode lock sign ${found.name}`,
    },
  );
}

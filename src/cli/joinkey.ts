import { asFailure } from "../kit/failure.js";
import { type CreatedKey, createdKey, type KeyRequest } from "../wire/adminapi.js";
import { decodeJoinKey, encodeJoinKey } from "../wire/joinkey.js";
import { callCoordinator } from "./admin.js";
import { tryAskLock } from "./agentclient.js";
import { readAgentConfig } from "./agentfiles.js";
import type { Call } from "./command.js";
import { lockOf, trustIn } from "./lockview.js";
import { fold, SCREEN_COLUMNS } from "./table.js";

/** How the key's device comes to know who is trusted; undefined: the network has no device lock. */
export type KeyLock =
  | { readonly carries: true; readonly version: number; readonly believed: boolean; readonly trouble?: string }
  | { readonly carries: false };

/**
 * A join key, with the list of trusted devices as this machine's own agent has verified it: the coordinator, which
 * makes the rest of the key, is not asked for that.
 */
export async function makeJoinKey(call: Call, request: KeyRequest): Promise<CreatedKey & { lock?: KeyLock }> {
  const created = await callCoordinator(call, createdKey, "POST", "/keys", request);
  const key = decodeJoinKey(created.joinKey);
  const own = await ownLock(call, key.coordinatorKey);
  const [record, trust] = [own?.records.at(-1), own && trustIn(own)];
  if (record !== undefined && trust !== undefined) {
    const { believed = false, trouble } = own ?? {};
    const lock = {
      carries: true,
      version: trust.version,
      believed,
      ...(trouble === undefined ? {} : { trouble }),
    } as const;
    return { ...created, joinKey: encodeJoinKey({ ...key, record }), lock };
  }
  // Whose token may not see the lock is told nothing of it.
  const there = await lockOf(call).catch(() => ({ records: [] }));
  return there.records.length === 0 ? created : { ...created, lock: { carries: false } };
}

/** What a person is told of it; nothing where there is no lock. */
export function describeKeyLock(lock: KeyLock | undefined): string[] {
  if (lock === undefined) return [];
  return wordsFor(lock).flatMap((words) => fold(words, SCREEN_COLUMNS));
}

function wordsFor(lock: KeyLock): string[] {
  if (!lock.carries)
    return [
      "without the list of trusted devices, which no agent on this machine knows: the new device believes the first list that the coordinator shows it",
      "better: make it on a trusted device, or compare on both: exitnode lock status",
    ];
  const { version, believed, trouble } = lock;
  return [
    `with the list of trusted devices (version ${version}) that this machine holds: the new device believes no other`,
    ...(believed ? ["it took that list on the coordinator's word; compare: exitnode lock status"] : []),
    ...(trouble === undefined ? [] : [`warning: ${trouble}`]),
  ];
}

/** Of this machine's agent, if it is a device of that coordinator's network. */
async function ownLock(call: Call, coordinatorKey: string) {
  const { parts } = call;
  try {
    const config = await readAgentConfig(parts);
    return config?.coordinator.publicKey === coordinatorKey ? await tryAskLock(parts.paths) : undefined;
  } catch (error) {
    parts.say(`the agent of this machine was not asked for the trusted devices: ${asFailure(error).message}`);
    return undefined;
  }
}

import { Failure } from "../kit/failure.js";
import { type AgentRequest, type AgentStatus, type AgentValue, NEAREST } from "../wire/agentsocket.js";
import { type Endorsement, fingerprintOf, type LockKey, signDevice, signRecord } from "../wire/lock.js";
import type { NetworkMap } from "../wire/map.js";
import type { Wish } from "./exits/wish.js";
import type { Lock } from "./lock.js";

export type LockRequest = Extract<AgentRequest, { do: "lock" | `lock-${string}` }>;

/** What this machine's people ask of the lock: its key signs here and nowhere else. `again` judges the map anew. */
export async function answerLock(
  lock: Lock,
  own: LockKey | undefined,
  request: LockRequest,
  again: () => Promise<void>,
): Promise<AgentValue> {
  if (own === undefined)
    throw new Failure("agent-starting", "the agent has just been started", { advice: "exitnode lock status" });
  switch (request.do) {
    case "lock":
      return describeLock(lock, own);
    case "lock-record":
      mustSign(lock, own, request.lock);
      return { record: signRecord(own, request) };
    case "lock-sign":
      mustSign(lock, own, request.lock);
      return { signatures: request.keys.map((key) => signDevice(own, request.lock, key)) };
    case "lock-take":
      lock.offer({ records: request.records });
      await again();
      return describeLock(lock, own);
    case "lock-forget":
      lock.forget();
      await again();
      return describeLock(lock, own);
  }
}

/** An exit node that the lock keeps out is there, and cannot be used. */
export function refuseKept({ kept }: Lock, { exits }: Wish, map: NetworkMap | undefined): void {
  if (exits === NEAREST) return;
  const isIn = (name: string): boolean => map?.peers.some((peer) => peer.name === name) === true;
  const out = kept.find(({ peer: { name } }) => exits.includes(name) && !isIn(name));
  if (out === undefined) return;
  const { name } = out.peer;
  throw new Failure("exit-unsigned", `the device lock does not let "${name}" in`, {
    advice: out.why === "unsigned" ? `exitnode lock sign ${name}    (on a trusted device)` : "exitnode status",
  });
}

/** What `status` says of the lock. */
export function lockStatus(lock: Lock, own: LockKey | undefined): Pick<AgentStatus, "lock" | "waiting"> {
  const { trust } = lock;
  if (trust === undefined || own === undefined) return {};
  const kept = lock.kept.map(({ peer, why }) => ({ name: peer.name, why }));
  return {
    ...(isOut(lock.standing(own.key)) ? { waiting: "lock" } : {}),
    lock: { fingerprint: fingerprintOf(own.key), version: trust.version, kept },
  };
}

const isOut = (standing: Endorsement | undefined): boolean => standing === "unsigned" || standing === "shut-out";

function describeLock(lock: Lock, own: LockKey): AgentValue {
  return {
    key: own.key,
    records: [...lock.records],
    ...(lock.isBelieved ? { believed: true } : {}),
    ...(lock.trouble === undefined ? {} : { trouble: lock.trouble }),
  };
}

/** Where there is no lock yet, whoever makes one may. */
function mustSign({ trust }: Lock, own: LockKey, lock: string): void {
  if (trust === undefined) return;
  if (trust.lock !== lock)
    throw new Failure("lock-another", "this device holds to another device lock than the one to be signed for", {
      advice: "exitnode lock status",
    });
  if (!trust.keys.includes(own.key))
    throw new Failure("lock-untrusted", "this device is not one of the trusted devices: its signature counts nowhere", {
      advice: "run this on a trusted device; which those are: exitnode lock status",
    });
}

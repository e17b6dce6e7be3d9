import * as z from "zod";
import { asFailure, Failure } from "../kit/failure.js";
import { tryJson } from "../kit/json.js";
import type { Key } from "../kit/key.js";
import type { Files } from "../sys/files.js";
import { DEVICE_FILES } from "../wire/agentconfig.js";
import {
  type Endorsement,
  endorsementOf,
  endsLock,
  follows,
  LOCK_RECORDS_MAX,
  lockRecord,
  type MapLock,
  readRecord,
  type Standing,
  standingOf,
  type Trust,
} from "../wire/lock.js";
import type { MapPeer, NetworkMap } from "../wire/map.js";
import { latestOnly } from "./latest.js";

/** A peer that the map names and the lock does not let in. */
export type Kept = { readonly peer: MapPeer; readonly why: Exclude<Standing, "trusted" | "signed"> };

type Held = { readonly text: string; readonly trust: Trust };

const lockFile = z.object({ records: z.array(lockRecord).max(LOCK_RECORDS_MAX) });

/**
 * Who is trusted, as this device has verified it, and what follows for its peers. The first lock it hears of is
 * believed; from then on the coordinator is not: a record counts when a device that is trusted already has signed it,
 * none of a lower version does, and what ends the lock is its secret.
 */
export class Lock {
  readonly #keep: (records: readonly string[]) => Promise<void>;
  #records: readonly Held[];
  #kept: readonly Kept[] = [];
  #trouble: string | undefined;
  /** What somebody has signed for this device. */
  #signature: string | undefined;
  /** What was offered last, as text: most maps say the same of the lock as the one before. */
  #heard: string | undefined;
  /** By the keys and signatures that were judged, each of which costs a tenth of a millisecond; of one record. */
  #judged = new Map<string, Standing>();

  /** `keep` makes the records last; none: this device knows of no lock. */
  constructor(records: readonly string[], keep: (records: readonly string[]) => Promise<void>) {
    this.#records = records.map(held);
    this.#keep = keep;
    const chain = this.#records;
    if (chain.some(({ trust }, at) => at > 0 && !follows(chain[at - 1]?.trust ?? trust, trust))) throw invalid();
  }

  /** The records, oldest first; the last is in force. */
  get records(): readonly string[] {
    return this.#records.map(({ text }) => text);
  }

  get trust(): Trust | undefined {
    return this.#records.at(-1)?.trust;
  }

  /** Peers of the newest map that are not let in. */
  get kept(): readonly Kept[] {
    return this.#kept;
  }

  /** Those of the peers that are not let in any more. */
  bars(peers: readonly MapPeer[]): MapPeer[] {
    const kept = new Set(this.#kept.map(({ peer }) => peer.id));
    return peers.filter(({ id }) => kept.has(id));
  }

  /** What is wrong between this device and the coordinator, in words. */
  get trouble(): string | undefined {
    return this.#trouble;
  }

  /** Whether its peers will have this device; undefined: there is no lock. */
  standing(own: Key): Endorsement | undefined {
    return this.trust && endorsementOf(this.trust, { key: own, signature: this.#signature });
  }

  /** The map with those peers alone that may be talked to. */
  judge(map: NetworkMap): NetworkMap {
    this.offer(map.lock);
    this.#signature = map.self.lockSignature;
    const { trust } = this;
    const judged = new Map<string, Standing>();
    const kept: Kept[] = [];
    const letIn = (peer: MapPeer): boolean => {
      if (trust === undefined) return true;
      const { publicKey, discoveryKey, lock } = peer;
      const about = [publicKey, discoveryKey, lock?.key, lock?.statement, lock?.signature].join(" ");
      const standing = this.#judged.get(about) ?? standingOf(trust, { publicKey, discoveryKey, lock });
      judged.set(about, standing);
      if (standing === "trusted" || standing === "signed") return true;
      kept.push({ peer, why: standing });
      return false;
    };
    const peers = map.peers.filter(letIn);
    this.#judged = judged;
    this.#kept = kept;
    return kept.length === 0 ? map : { ...map, peers };
  }

  /** Takes in what is new and proven. */
  offer(lock: MapLock | undefined): void {
    const heard = JSON.stringify(lock ?? null);
    if (heard === this.#heard) return;
    this.#heard = heard;
    const before = this.records;
    const { trust } = this;
    if (trust !== undefined && lock?.ended?.some((one) => one.lock === trust.lock && endsLock(trust, one.secret)))
      this.#records = [];
    const offered = (lock?.records ?? []).map(tryHeld).filter((one) => one !== undefined);
    for (const one of offered) {
      if (this.trust === undefined || follows(this.trust, one.trust))
        this.#records = [...this.#records, one].slice(-LOCK_RECORDS_MAX);
    }
    this.#trouble = troubleOf(this.trust, offered.at(-1)?.trust);
    if (this.records.join() !== before.join()) this.#save();
  }

  /** Believes anew the first lock it hears of. */
  forget(): void {
    this.#records = [];
    this.#heard = undefined;
    this.#save();
  }

  #save(): void {
    this.#judged.clear();
    this.#keep(this.records).catch((error: unknown) => {
      this.#trouble = `the trusted devices could not be written down: ${asFailure(error).message}`;
    });
  }
}

/** A file that is there and says nothing sensible is not taken for none: that would let everybody in. */
export async function recallLock(files: Files, folder: string): Promise<Lock> {
  const path = `${folder}/${DEVICE_FILES.lock}`;
  const text = await files.readText(path);
  const stored = text === undefined ? { records: [] } : lockFile.safeParse(tryJson(text)).data;
  if (stored === undefined) throw invalid(path);
  let last: readonly string[] = [];
  const write = latestOnly(() =>
    last.length === 0
      ? files.remove(path)
      : files.write(path, `${JSON.stringify({ records: last })}\n`, { mode: 0o600 }),
  );
  return new Lock(stored.records, (records) => {
    last = records;
    return write();
  });
}

function troubleOf(trust: Trust | undefined, offered: Trust | undefined): string | undefined {
  if (trust === undefined) return undefined;
  if (offered === undefined) return "the coordinator says nothing of the device lock; it holds here all the same";
  if (offered.lock !== trust.lock)
    return "the coordinator speaks of another device lock than this device's, which goes on holding here";
  if (offered.version < trust.version)
    return `the coordinator's list of trusted devices (version ${offered.version}) is older than this device's (version ${trust.version}), which holds`;
  return offered.version > trust.version
    ? `no device that is trusted here has signed the coordinator's list of trusted devices; version ${trust.version} holds`
    : undefined;
}

const tryHeld = (text: string): Held | undefined => {
  const trust = readRecord(text);
  return trust === undefined ? undefined : { text, trust };
};

const held = (text: string): Held => {
  const one = tryHeld(text);
  if (one === undefined) throw invalid();
  return one;
};

const invalid = (path: string = DEVICE_FILES.lock): Failure =>
  new Failure("lock-invalid", `${path} does not hold a device lock's records, one following on the other`, {
    advice: "restore it from a backup, or: exitnode lock forget",
  });

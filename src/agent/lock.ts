import * as z from "zod";
import { asFailure, Failure } from "../kit/failure.js";
import { tryJson } from "../kit/json.js";
import type { Key } from "../kit/key.js";
import type { Files } from "../sys/files.js";
import { DEVICE_FILES } from "../wire/agentconfig.js";
import { decodeJoinKey } from "../wire/joinkey.js";
import {
  type Endorsement,
  endorsementOf,
  endsLock,
  fingerprintOf,
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
import { Proofs } from "./proofs.js";

/** A peer that the map names and the lock does not let in. */
export type Kept = { readonly peer: MapPeer; readonly why: Exclude<Standing, "trusted" | "signed"> };

type Held = { readonly text: string; readonly trust: Trust };

/**
 * How this device came to its first record: a join key brought it and no coordinator has shown it yet; it is proven, by
 * a join key or because this device has signed it; or the coordinator was believed.
 */
const origin = z.enum(["brought", "proven", "believed"]);
type Origin = z.infer<typeof origin>;

const lockFile = z.object({ records: z.array(lockRecord).max(LOCK_RECORDS_MAX), origin: origin.optional() });
type LockFile = z.infer<typeof lockFile>;

/**
 * Who is trusted, as this device has verified it, and what follows for its peers. The first record is its join key's
 * or, where that has none, the first that it hears of. From then on the coordinator is not believed: a record counts
 * when a device that is trusted already has signed it, none of a lower version does, and what ends the lock is its
 * secret.
 */
export class Lock {
  readonly #keep: (file: LockFile) => Promise<void>;
  readonly #own: Key | undefined;
  readonly #proofs = new Proofs();
  #records: readonly Held[];
  #origin: Origin;
  #kept: readonly Kept[] = [];
  #trouble: string | undefined;
  #dispute: string | undefined;
  /** What somebody has signed for this device. */
  #signature: string | undefined;
  /** What was offered last, as text: most maps say the same of the lock as the one before. */
  #heard: string | undefined;

  /** `keep` makes the records last; none: this device knows of no lock. `own`: its lock key. */
  constructor(stored: LockFile, keep: (file: LockFile) => Promise<void>, own?: Key) {
    this.#keep = keep;
    this.#own = own;
    this.#records = stored.records.map(held);
    const chain = this.#records;
    if (chain.some(({ trust }, at) => at > 0 && !follows(chain[at - 1]?.trust ?? trust, trust))) throw invalid();
    const [first] = chain;
    this.#origin = stored.origin ?? (first === undefined ? "believed" : this.#originOf(first));
  }

  /** The records, oldest first; the last is in force. */
  get records(): readonly string[] {
    return this.#records.map(({ text }) => text);
  }

  get trust(): Trust | undefined {
    return this.#records.at(-1)?.trust;
  }

  /** Whether the first of its records was taken on the coordinator's word. */
  get isBelieved(): boolean {
    return this.#records.length > 0 && this.#origin === "believed";
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
    return this.#dispute ?? this.#trouble;
  }

  /** The coordinator and the join key speak of different lists: this device is not to join there. In words. */
  get dispute(): string | undefined {
    return this.#dispute;
  }

  /** Whether its peers will have this device; undefined: there is no lock. */
  standing(own: Key): Endorsement | undefined {
    return this.trust && endorsementOf(this.trust, { key: own, signature: this.#signature });
  }

  /** Before a map is judged that has much to verify; undefined: it is judged in no time. Ask again afterwards. */
  prepare({ lock, peers }: NetworkMap): Promise<void> | undefined {
    this.offer(lock);
    return this.trust && this.#proofs.prepare(this.trust.lock, peers);
  }

  /** The map with those peers alone that may be talked to. */
  judge(map: NetworkMap): NetworkMap {
    this.offer(map.lock);
    this.#signature = map.self.lockSignature;
    const { trust } = this;
    const kept: Kept[] = [];
    this.#kept = kept;
    if (trust === undefined) return map;
    const proofs = this.#proofs.of(trust.lock, map.peers);
    const peers = map.peers.filter((peer, at) => {
      const why = standingOf(trust, peer, proofs[at]);
      if (why === "trusted" || why === "signed") return true;
      kept.push({ peer, why });
      return false;
    });
    return kept.length === 0 ? map : { ...map, peers };
  }

  /** Takes in what is new and proven. */
  offer(lock: MapLock | undefined): void {
    const heard = JSON.stringify(lock ?? null);
    if (heard === this.#heard) return;
    this.#heard = heard;
    const { trust } = this;
    const before = this.#records;
    const proven = (lock?.ended ?? []).filter((one) => trust?.lock === one.lock);
    const isEnded = trust !== undefined && proven.some(({ secret }) => endsLock(trust, secret));
    const offered = (lock?.records ?? []).map(tryHeld).filter((one) => one !== undefined);
    const after = offered.reduce(followed, isEnded ? [] : before);
    this.#trouble = troubleOf(after.at(-1), offered.at(-1));
    const [first] = after;
    if (trust !== undefined && this.#origin === "brought") {
      // That a lock was ended is no reason to believe the coordinator in the next one.
      const isOther = isEnded ? first !== undefined : this.#trouble !== undefined;
      this.#dispute = isOther ? disputeOf(trust, offered.at(-1)?.trust) : undefined;
      if (isOther) return;
      this.#origin = "proven";
    } else if (after === before) return;
    else if (first !== undefined && (isEnded || before.length === 0)) this.#origin = this.#originOf(first);
    this.#records = after;
    this.#save();
  }

  /** The record of a join key: it counts for more than the coordinator's word, and for less than what follows on it. */
  async bring(text: string): Promise<void> {
    const brought = held(text);
    const { trust } = this;
    const isHere = this.#records.some((one) => one.text === text || follows(brought.trust, one.trust));
    const isOlder = trust?.lock === brought.trust.lock && trust.version >= brought.trust.version;
    if (isHere && this.#origin === "believed") this.#origin = "proven";
    else if (!isHere && !(isOlder && this.#origin === "proven")) {
      const after = followed(this.#records, brought);
      this.#records = after === this.#records ? [brought] : after;
      this.#origin = "brought";
    }
    await this.#keep(this.#file);
  }

  /** Believes anew the first lock it hears of. */
  forget(): void {
    this.#records = [];
    this.#heard = undefined;
    this.#dispute = undefined;
    this.#save();
  }

  #originOf({ trust }: Held): Origin {
    return trust.by === this.#own ? "proven" : "believed";
  }

  get #file(): LockFile {
    return { records: [...this.records], origin: this.#origin };
  }

  #save(): void {
    this.#keep(this.#file).catch((error: unknown) => {
      this.#trouble = `the trusted devices could not be written down: ${asFailure(error).message}`;
    });
  }
}

/** A file that is there and says nothing sensible is not taken for none: that would let everybody in. */
export async function recallLock(files: Files, folder: string, own: Key): Promise<Lock> {
  const path = `${folder}/${DEVICE_FILES.lock}`;
  const text = await files.readText(path);
  const stored = text === undefined ? { records: [] } : lockFile.safeParse(tryJson(text)).data;
  if (stored === undefined) throw invalid(path);
  let last: LockFile = stored;
  const write = latestOnly(() =>
    last.records.length === 0 ? files.remove(path) : files.write(path, `${JSON.stringify(last)}\n`, { mode: 0o600 }),
  );
  const keep = (file: LockFile): Promise<void> => {
    last = file;
    return write();
  };
  const lock = new Lock(stored, keep, own);
  const joinKey = await files.readText(`${folder}/${DEVICE_FILES.joinKey}`);
  const record = joinKey === undefined ? undefined : recordIn(joinKey);
  if (record !== undefined) await lock.bring(record);
  return lock;
}

/** A key that cannot be read is no key to the coordinator either: that says what is wrong with it. */
function recordIn(joinKey: string): string | undefined {
  try {
    return decodeJoinKey(joinKey).record;
  } catch {
    return undefined;
  }
}

function troubleOf(own: Held | undefined, offered: Held | undefined): string | undefined {
  if (own === undefined || own.text === offered?.text) return undefined;
  if (offered === undefined) return "the coordinator says nothing of the device lock; it holds here all the same";
  const { lock, version } = own.trust;
  if (offered.trust.lock !== lock)
    return "the coordinator speaks of another device lock than this device's, which goes on holding here";
  if (offered.trust.version < version)
    return `the coordinator's list of trusted devices (version ${offered.trust.version}) is older than this device's (version ${version}), which holds`;
  return `no device that is trusted here has signed the coordinator's list of trusted devices; version ${version} holds`;
}

/** What the join key says of the lock, and what the coordinator. */
function disputeOf(expected: Trust, shown: Trust | undefined): string {
  const isOlder = shown !== undefined && shown.lock === expected.lock && shown.version < expected.version;
  const what = isOlder ? "an older list than that" : "a list that none of these has signed";
  const shows = shown === undefined ? "no device lock" : `${what}: ${describeTrust(shown)}`;
  return `the join key names the trusted devices ${describeTrust(expected)}; the coordinator shows ${shows}`;
}

const describeTrust = ({ keys, version }: Trust): string => {
  const names = keys.slice(0, NAMED_MAX).map(fingerprintOf);
  const more = keys.length > NAMED_MAX ? ` and ${keys.length - NAMED_MAX} more` : "";
  return `${names.join(", ")}${more} (version ${version})`;
};

/** In one sentence. */
const NAMED_MAX = 3;

/** With the record, if it follows on the last one or is the first; otherwise the very same records. */
const followed = (records: readonly Held[], one: Held): readonly Held[] => {
  const last = records.at(-1);
  return last === undefined || follows(last.trust, one.trust) ? [...records, one].slice(-LOCK_RECORDS_MAX) : records;
};

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

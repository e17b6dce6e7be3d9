import * as z from "zod";
import { Failure } from "../kit/failure.js";
import { isPrivate, tryIp } from "../kit/ip.js";
import type { Key } from "../kit/key.js";
import { type Millis, SECOND } from "../kit/time.js";
import type { Clock } from "../sys/clock.js";
import type { Https } from "../sys/https.js";
import type { Log } from "../sys/log.js";
import type { Random } from "../sys/random.js";
import type { Streams } from "../sys/streamserver.js";
import type { RelayInfo } from "../wire/adminapi.js";
import {
  ADMISSION_LIFETIME_MS,
  CLOCK_SKEW_MAX_MS,
  issueRevocation,
  REVOCATION_NONCE_BYTES,
} from "../wire/admission.js";
import { OWN_RELAY, REMOTE_RELAYS_MAX, type RemoteRelay, remoteRelay } from "../wire/coordinatorconfig.js";
import type { MapRelay } from "../wire/map.js";
import { REVOKE_PATH } from "../wire/relay.js";
import type { Actor } from "./actor.js";
import { Newest } from "./newest.js";
import type { Store, StoreView } from "./store/store.js";

/** A relay that lives on the coordinator's own port. It knows the admission key's public half and nothing else of us. */
export interface RelayBeside {
  /** Its Noise key. */
  readonly publicKey: Key;
  /** 0: it answers no STUN. */
  readonly stunPort: number;
  /** 0: it answers on one port at most. */
  readonly otherStunPort: number;
  readonly streams: Streams;
  readonly connectionsMax: number;
  /** Ends every connection of the device now. */
  revoke(machineKey: Key): void;
  close(): Promise<void>;
}

export type RelaysParts = {
  readonly own: RelayBeside | undefined;
  /** How devices reach the coordinator, and so the relay beside it. */
  readonly urls: readonly string[];
  readonly configured: readonly RemoteRelay[];
  readonly store: Store;
  /** The seed of the admission key. */
  readonly signingKey: Uint8Array;
  readonly https: Https;
  readonly clock: Clock;
  readonly random: Random;
  readonly log?: Log;
};

export type RelaysTold = { readonly asked: number; readonly confirmed: number; readonly silent: string[] };

/** How long a revocation's answer waits for other machines' relays to confirm. */
export const REVOKE_WAIT_MS: Millis = 4 * SECOND;
/** The setting that holds the relays that were added while we ran. */
const ADDED = "relays";

/** A relay whose clock is behind takes an admission for so long. */
const ADMISSION_GOOD_MS: Millis = ADMISSION_LIFETIME_MS + CLOCK_SKEW_MAX_MS;
/** One attempt to tell one relay. */
export const REVOKE_ATTEMPT_MS: Millis = 2 * SECOND;
const PAUSE_MIN_MS: Millis = 250;
const PAUSE_MAX_MS: Millis = 30 * SECOND;
/** Relays that are still to be told of something; beyond, one is told once, and its admissions' end does the rest. */
export const TELLINGS_MAX = 256;

/** The network's relays: what is in the map, and who hears of a revocation. */
export class Relays {
  readonly #parts: RelaysParts;
  #added: readonly RemoteRelay[];
  #map: readonly MapRelay[] = [];
  #tellings = 0;
  readonly #newest = new Newest();
  readonly #over = new AbortController();

  private constructor(parts: RelaysParts, added: readonly RemoteRelay[]) {
    this.#parts = parts;
    this.#added = added;
    this.#map = this.#mapNow();
  }

  static async open(parts: RelaysParts): Promise<Relays> {
    return new Relays(parts, await kept(parts.store.view));
  }

  /** Another coordinator of the same store may have added or removed some: true when it has. */
  async reread(view: StoreView): Promise<boolean> {
    const added = await this.#newest.read(() => kept(view));
    if (added === undefined || JSON.stringify(added) === JSON.stringify(this.#added)) return false;
    this.#added = added;
    this.#map = this.#mapNow();
    return true;
  }

  /** As devices are told: the own one first. The same list until it changes. */
  get map(): readonly MapRelay[] {
    return this.#map;
  }

  describe(): RelayInfo[] {
    const configured = new Set(this.#parts.configured.map(({ name }) => name));
    const remote = new Map(this.#remote().map((relay) => [relay.name, relay]));
    return this.#map.map(({ id, name, url, relayKey, stunPort, otherStunPort }) => {
      const tlsFingerprint = remote.get(name)?.tlsFingerprint;
      const kind = id === OWN_RELAY ? "own" : configured.has(name) ? "configured" : "added";
      return {
        ...{ name, url, relayKey, stunPort, kind },
        ...(otherStunPort === undefined ? {} : { otherStunPort }),
        ...(tlsFingerprint === undefined ? {} : { tlsFingerprint }),
      };
    });
  }

  /** Adds it or replaces the one of its name; false when it was there already, exactly so. */
  async add(relay: RemoteRelay, by: Actor): Promise<boolean> {
    const configured = this.#parts.configured.find(({ name }) => name === relay.name);
    if (configured !== undefined && sameRelay(configured, relay)) return false;
    this.#refuseConfigured(relay.name);
    return this.#change(by, "relay.add", relay.name, (added) => {
      const before = added.find(({ name }) => name === relay.name);
      if (before !== undefined && sameRelay(before, relay)) return added;
      const others = added.filter((one) => one !== before);
      if (this.#parts.configured.length + others.length >= REMOTE_RELAYS_MAX)
        throw new Failure("relays-full", `the map holds ${REMOTE_RELAYS_MAX} relays of other machines already`, {
          advice: "exitnode relay list, then: exitnode relay remove <name>",
        });
      return [...others, relay];
    });
  }

  async remove(name: string, by: Actor): Promise<void> {
    this.#refuseConfigured(name);
    await this.#change(by, "relay.remove", name, (added) => {
      const left = added.filter((relay) => relay.name !== name);
      if (left.length === added.length)
        throw new Failure("relay-unknown", `no relay that could be removed is called "${name}"`, {
          advice: "exitnode relay list",
        });
      return left;
    });
  }

  /**
   * Shuts a device out of every relay: the own one at once, the others by a signed word. One that does not confirm is
   * told again until the device's last admission has run out by itself.
   */
  async revoke(machineKey: Key): Promise<RelaysTold> {
    const { own, clock } = this.#parts;
    own?.revoke(machineKey);
    const remote = this.#remote();
    const confirmed = new Set<string>();
    const deadline = new AbortController();
    await Promise.race([
      Promise.all(
        remote.map(async (relay) => {
          if (await this.#tell(relay, machineKey)) confirmed.add(relay.name);
        }),
      ),
      clock.sleep(REVOKE_WAIT_MS, deadline.signal).catch(() => undefined),
    ]);
    deadline.abort();
    const mine = own === undefined ? 0 : 1;
    return {
      asked: mine + remote.length,
      confirmed: mine + confirmed.size,
      silent: remote.filter(({ name }) => !confirmed.has(name)).map(({ name }) => name),
    };
  }

  /** After a restart the relay beside has forgotten whom it shut out: admissions from before may still be good. */
  recall(revoked: Iterable<{ readonly machineKey: Key; readonly revokedAtMs?: Millis }>): void {
    const since = this.#parts.clock.wall() - ADMISSION_GOOD_MS;
    for (const { machineKey, revokedAtMs } of revoked)
      if (revokedAtMs !== undefined && revokedAtMs >= since) this.#parts.own?.revoke(machineKey);
  }

  async close(): Promise<void> {
    this.#over.abort();
    await this.#parts.own?.close();
  }

  async #tell(relay: RemoteRelay, machineKey: Key): Promise<boolean> {
    const { clock, log } = this.#parts;
    const until = clock.now() + ADMISSION_GOOD_MS;
    const patient = this.#tellings < TELLINGS_MAX;
    this.#tellings++;
    try {
      for (let pauseMs = PAUSE_MIN_MS; ; pauseMs = Math.min(PAUSE_MAX_MS, 2 * pauseMs)) {
        const trouble = await this.#tellOnce(relay, machineKey);
        if (trouble === undefined) return true;
        log?.warn("a relay did not confirm a revocation", { relay: relay.name, reason: trouble });
        if (!patient || clock.now() + pauseMs >= until || this.#over.signal.aborted) return false;
        await clock.sleep(pauseMs, this.#over.signal).catch(() => undefined);
      }
    } finally {
      this.#tellings--;
    }
  }

  /** Undefined when it confirmed, otherwise why not. Each attempt is signed anew: a relay takes a nonce only once. */
  async #tellOnce(relay: RemoteRelay, machineKey: Key): Promise<string | undefined> {
    const { https, clock, random, signingKey } = this.#parts;
    const { signal } = this.#over;
    try {
      const fingerprint =
        relay.tlsFingerprint ?? (await https.peerFingerprint(relay.url, { deadlineMs: REVOKE_ATTEMPT_MS, signal }));
      const token = issueRevocation(signingKey, machineKey, random(REVOCATION_NONCE_BYTES), clock.wall());
      const { status } = await https.request({
        method: "POST",
        url: new URL(REVOKE_PATH, relay.url).href,
        fingerprint,
        headers: { "content-type": "application/octet-stream" },
        body: [token],
        deadlineMs: REVOKE_ATTEMPT_MS,
        signal,
        responseBytesMax: 1_024,
      });
      return status === 204 ? undefined : `it answered HTTP ${status}`;
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  }

  #remote(): RemoteRelay[] {
    const { configured } = this.#parts;
    const named = new Set(configured.map(({ name }) => name));
    return [...configured, ...this.#added.filter(({ name }) => !named.has(name))].slice(0, REMOTE_RELAYS_MAX);
  }

  /** From what the store holds at that moment: another coordinator may have changed it. False: it stays as it is. */
  async #change(
    by: Actor,
    action: string,
    target: string,
    change: (added: readonly RemoteRelay[]) => readonly RemoteRelay[],
  ): Promise<boolean> {
    const { store, clock } = this.#parts;
    const changes = await store.change(async (view) => {
      const before = await kept(view);
      const after = change(before);
      if (after === before) return false;
      await view.settings.set(ADDED, JSON.stringify(after));
      await view.audit.append({ at: clock.wall(), by, action, target });
      return true;
    });
    // Read, and not remembered: somebody else's change may have come after ours.
    await this.reread(store.view);
    return changes;
  }

  #mapNow(): MapRelay[] {
    const { own, urls } = this.#parts;
    const remote = this.#remote().map(
      ({ name, url, relayKey, stunPort, otherStunPort }): MapRelay => ({
        ...{ id: name, name, url, relayKey, stunPort },
        ...(otherStunPort === undefined ? {} : { otherStunPort }),
      }),
    );
    return own === undefined ? remote : [ownRelay(own, urls), ...remote];
  }

  #refuseConfigured(name: string): void {
    if (this.#parts.configured.some((relay) => relay.name === name))
      throw new Failure("relay-configured", `the relay "${name}" stands in the coordinator's own file`, {
        advice: "change it there, under relays: in coordinator.yaml",
      });
  }
}

const kept = async ({ settings }: Pick<StoreView, "settings">): Promise<readonly RemoteRelay[]> =>
  (await settings.getJson(ADDED, z.array(remoteRelay))) ?? [];

/** One relay with several addresses: strangers dial the first public one, who is in the home may try the others. */
function ownRelay({ publicKey, stunPort, otherStunPort }: RelayBeside, urls: readonly string[]): MapRelay {
  const url = urls.find((one) => !isHome(one)) ?? urls[0] ?? "";
  const relay = {
    ...{ id: OWN_RELAY, name: OWN_RELAY, url, relayKey: publicKey, stunPort },
    ...(otherStunPort === 0 ? {} : { otherStunPort }),
  };
  return urls.length < 2 ? relay : { ...relay, urls: [url, ...urls.filter((one) => one !== url)] };
}

function isHome(url: string): boolean {
  const ip = tryIp(new URL(url).hostname.replace(/^\[|\]$/g, ""));
  return ip !== undefined && isPrivate(ip);
}

const sameRelay = (left: RemoteRelay, right: RemoteRelay): boolean =>
  left.url === right.url &&
  left.relayKey === right.relayKey &&
  left.stunPort === right.stunPort &&
  left.otherStunPort === right.otherStunPort &&
  left.tlsFingerprint === right.tlsFingerprint;

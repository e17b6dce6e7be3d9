import { asFailure, type Failure } from "../kit/failure.js";
import type { RelayInfo } from "../wire/adminapi.js";

/** What a map holds of a relay that was just set up. */
export type WantedRelay = {
  readonly url: string;
  readonly relayKey: string;
  readonly stunPort: number;
  readonly otherStunPort?: number;
  readonly tlsFingerprint: string;
};

/** The relays of the network, as the coordinator's API has them. */
export type RelayList = {
  get(): Promise<readonly RelayInfo[]>;
  put(name: string, relay: WantedRelay): Promise<unknown>;
};

export type Entered = {
  readonly changed: boolean;
  /** The coordinator is of a version that knows no second STUN port: the map has the relay without it. */
  readonly coordinatorOld: boolean;
};

/** Enters a relay into the network's map, unless it is there exactly so. */
export async function enterRelay(list: RelayList, name: string, wanted: WantedRelay): Promise<Entered> {
  const known = (await list.get()).find((relay) => relay.name === name);
  if (known !== undefined && isSame(known, wanted)) return { changed: false, coordinatorOld: false };
  try {
    await list.put(name, wanted);
    return { changed: true, coordinatorOld: false };
  } catch (error) {
    // An older one refuses what it does not know, and names it.
    if (!isAboutOtherStunPort(asFailure(error))) throw error;
  }
  const { otherStunPort: _, ...understood } = wanted;
  const changed = known === undefined || !isSame(known, understood);
  if (changed) await list.put(name, understood);
  return { changed, coordinatorOld: true };
}

const isAboutOtherStunPort = ({ code, message }: Failure): boolean =>
  code === "message-invalid" && message.includes("otherStunPort");

function isSame(known: RelayInfo, wanted: WantedRelay): boolean {
  return (
    known.url === wanted.url &&
    known.relayKey === wanted.relayKey &&
    known.stunPort === wanted.stunPort &&
    known.otherStunPort === wanted.otherStunPort &&
    known.tlsFingerprint === wanted.tlsFingerprint
  );
}

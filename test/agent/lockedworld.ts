import { utf8 } from "../../src/kit/bytes.js";
import { hash } from "../../src/kit/crypto.js";
import { type LockKey, lockKeyOf, lockSecretHash, signDevice, signRecord, signStatement } from "../../src/wire/lock.js";
import type { MapPeer, NetworkMap } from "../../src/wire/map.js";
import { HOME, MAP, type Running, World } from "./agentworld.js";
import { settled } from "./labclock.js";

/** A network with a device lock, whose coordinator shows what it likes. */
export const LOCK = "0123456789abcdef0123456789abcdef";
export const SECRET = "00112233445566778899aabbccddeeff";
export const lockKey = (name: string): LockKey => lockKeyOf(hash(utf8(`lock key of ${name}`)));
export const [tablet, home, phone, attacker] = [
  lockKey("tablet"),
  lockKey("home"),
  lockKey("phone"),
  lockKey("attacker"),
];

export const record = (by: LockKey, version: number, ...trusted: LockKey[]): string =>
  signRecord(by, {
    ...{ lock: LOCK, version, secretHash: lockSecretHash(SECRET), shutOut: [] },
    keys: trusted.map(({ key }) => key),
  });
export const FIRST = record(tablet, 1, tablet);

export const locked = (peer: MapPeer, own: LockKey, by?: LockKey): MapPeer => ({
  ...peer,
  lock: {
    key: own.key,
    statement: signStatement(own, peer),
    ...(by === undefined ? {} : { signature: signDevice(by, LOCK, own.key) }),
  },
});
export const SIGNED_HOME = locked(HOME, home, tablet);

export const mapOf = (peers: MapPeer[], records: string[] = [FIRST]): NetworkMap => ({
  ...MAP,
  peers,
  lock: { records },
});

export async function started(
  map: NetworkMap,
  world = new World(),
): Promise<{ world: World; agent: Running; push(next: NetworkMap): Promise<void> }> {
  world.coordinator.map = map;
  const agent = await world.start();
  let { seq } = map;
  return {
    world,
    agent,
    async push(next) {
      world.coordinator.push({ ...next, seq: ++seq });
      await settled();
    },
  };
}

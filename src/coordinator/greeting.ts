import { toHex } from "../kit/bytes.js";
import type { Key } from "../kit/key.js";
import type { Millis } from "../kit/time.js";
import type { Random } from "../sys/random.js";
import type { Refusal } from "../wire/control.js";
import { isKeyKept } from "./apps.js";
import type { Change } from "./commitqueue.js";
import type { Device } from "./device.js";
import { admit, type Hello, type Network, renews } from "./entrance.js";
import { personKey, signedIn } from "./identity/personkey.js";
import { hashSecret } from "./joinkeys.js";
import { withKeyExpiry } from "./networksettings.js";
import { isPaced, KEPT, rotated } from "./rotation.js";
import { sameDevice } from "./store/devices.js";
import type { Turn } from "./turn.js";

/** A machine that says hello; `userId` has signed in for it. */
export type Greeting = {
  readonly machineKey: Key;
  readonly hello: Hello;
  readonly remote: string;
  readonly userId?: string | undefined;
};
export type Greeted = { readonly device: Device } | { readonly refusal: Refusal };

export type GreetingParts = {
  /** Its devices are the newest ones. */
  readonly network: Network;
  readonly random: Random;
  readonly wall: () => Millis;
};

/** What a hello changes: a device is let in, or a member says what is new about it. */
export function greeting(parts: GreetingParts, said: Greeting): Change<Turn, Greeted> {
  return { look: () => unchanged(parts, said), decide: (turn) => greet(parts, said, turn) };
}

/**
 * A member that is as it was. Refusals are not for here: what other coordinators have changed is heard first. When a
 * device was last seen is written when it leaves, so that a network that comes back at once writes nothing.
 */
function unchanged({ network, wall }: GreetingParts, { machineKey, hello, userId }: Greeting): Greeted | undefined {
  if (hello.joinSecret !== undefined || userId !== undefined) return undefined;
  const entrance = admit(network, hello, machineKey, undefined, "", wall());
  if (entrance.kind !== "known") return undefined;
  const before = network.devices.get(entrance.device.id);
  const isSame = before !== undefined && isPaced(before, hello) && sameDevice(before, entrance.device);
  return isSame ? { device: before } : undefined;
}

async function greet(
  { network, random }: GreetingParts,
  { machineKey, hello, remote, userId }: Greeting,
  { view, now, put, note, settings }: Turn,
): Promise<Greeted> {
  const { joinSecret } = hello;
  const person = userId === undefined ? undefined : { userId, settings: await settings() };
  const joinKey =
    person !== undefined
      ? personKey(person.userId, person.settings, now)
      : joinSecret === undefined
        ? undefined
        : await view.joinKeys.bySecret(hashSecret(joinSecret));
  const entrance = admit(network, hello, machineKey, joinKey, `d${toHex(random(8))}`, now);
  if (entrance.kind === "refused") return { refusal: entrance.code };
  const isRenewed = person === undefined && entrance.kind === "known" && renews(entrance.device, joinKey, now);
  const entered =
    person !== undefined
      ? signedIn(entrance.device, person.userId, person.settings, now)
      : isRenewed || (entrance.kind === "new" && entrance.device.approvedAtMs !== undefined)
        ? withKeyExpiry(entrance.device, await settings(), now)
        : entrance.device;
  // Refused or not, it has counted: whoever was somebody else by mistake may begin again.
  if (person !== undefined) await view.signIns.remove(machineKey);
  if (entered === undefined) return { refusal: "sign-in-refused" };
  const before = network.devices.get(entered.id);
  const pace = isKeyKept(entered, network.devices) ? async () => KEPT : settings;
  const device = await rotated(entered, before, hello, pace, random, now);
  const by = { name: `device:${device.id}`, remote };
  if (entrance.kind === "known") {
    if (person !== undefined)
      note({ name: `user:${person.userId}`, remote }, "device.sign-in", device.id, { name: device.name });
    if (isRenewed && joinKey !== undefined) {
      await view.joinKeys.use(joinKey.id, machineKey, now);
      note(by, "device.renew", device.id, { name: device.name, key: joinKey.id });
    }
    if (before !== undefined && sameDevice(before, device)) return { device: before };
    await put({ ...device, lastSeenAtMs: now });
    return { device };
  }
  if (person === undefined) await view.joinKeys.use(entrance.by.id, machineKey, now);
  await put(device, person === undefined ? entrance.by.id : undefined);
  note(by, "device.join", device.id, { name: device.name, role: device.role, key: entrance.by.id });
  return { device };
}

import type { Cidr } from "../kit/ip.js";
import type { Key } from "../kit/key.js";
import type { Millis } from "../kit/time.js";
import { CONTROL_VERSION, type Refusal, type ToCoordinator } from "../wire/control.js";
import type { Device } from "./device.js";
import { keyRefusal, type StoredKey } from "./joinkeys.js";
import type { Roster } from "./roster.js";

export type Hello = Extract<ToCoordinator, { type: "hello" }>;

/** Who is let in, as whom. */
export type Entrance =
  | { readonly kind: "refused"; readonly code: Refusal }
  /** A machine that is a member already, with what it now says of itself. */
  | { readonly kind: "known"; readonly device: Device }
  | { readonly kind: "new"; readonly device: Device; readonly by: StoredKey };

export type Network = {
  /** Revoked ones too: they hold their name and addresses until they are removed. */
  readonly devices: Roster;
  readonly range: Cidr;
  readonly ula: Cidr;
  readonly devicesMax: number;
  /** Names that rights go by, which nobody takes by asking for them; left out, there are none. */
  readonly isReserved?: ((name: string) => boolean) | undefined;
};

/** `joinKey` is the stored key of the hello's secret; `id` is what a new device is called by. */
export function admit(
  network: Network,
  hello: Hello,
  machineKey: Key,
  joinKey: StoredKey | undefined,
  id: string,
  now: Millis,
): Entrance {
  if (hello.version !== CONTROL_VERSION) return refuse("version-unsupported");
  const known = network.devices.byMachineKey(machineKey);
  if (known?.revokedAtMs !== undefined) return refuse("device-revoked");
  // Two members with one WireGuard key: the peers could not tell them apart, and one would get the other's packets.
  const holder = network.devices.memberByPublicKey(hello.publicKey);
  const twin = holder !== undefined && holder.id !== known?.id;
  // A machine that is in needs no key: a lost answer to its first hello costs nothing, the key being used up by it.
  if (known !== undefined)
    return twin ? refuse("key-taken") : { kind: "known", device: renewed(network, known, hello) };

  if (hello.joinSecret === undefined && joinKey === undefined) return refuse("join-key-required");
  const refusal = keyRefusal(joinKey, now);
  if (refusal !== undefined || joinKey === undefined) return refuse(refusal ?? "join-key-unknown");
  if (twin) return refuse("key-taken");
  if (network.devices.size >= network.devicesMax) return refuse("full");
  const wanted = joinKey.name ?? hello.name;
  const taken = (name: string): boolean => network.devices.byName(name) !== undefined;
  if (joinKey.role === "exit-node" && taken(wanted)) return refuse("name-taken");
  // An exit node's key comes from an administrator, and so does a name that the key of nobody's devices gives.
  const isGiven = joinKey.role === "exit-node" || (joinKey.name !== undefined && joinKey.userId === undefined);
  const isReserved = (name: string): boolean => !isGiven && network.isReserved?.(name) === true;
  const addresses = network.devices.nextAddresses(network.range, network.ula);
  if (addresses === undefined) return refuse("full");
  const device: Device = {
    id,
    name: freeName(wanted, (name) => taken(name) || isReserved(name)),
    wantedName: hello.name,
    role: joinKey.role,
    machineKey,
    publicKey: hello.publicKey,
    ...addresses,
    report: hello.report,
    ...(hello.lock === undefined ? {} : { lock: hello.lock }),
    agentVersion: hello.agentVersion,
    createdAtMs: now,
    lastSeenAtMs: now,
    ...(joinKey.userId === undefined ? {} : { userId: joinKey.userId }),
    tags: joinKey.tags,
    ephemeral: joinKey.ephemeral,
    ...(joinKey.preapproved ? { approvedAtMs: now } : {}),
    approvedRoutes: [],
  };
  return { kind: "new", device, by: joinKey };
}

/** Whether a key that a known machine brings renews its own: one of its person's, or an administrator's of nobody's. */
export function renews(device: Device, joinKey: StoredKey | undefined, now: Millis): joinKey is StoredKey {
  if (joinKey === undefined || device.keyExpiresAtMs === undefined) return false;
  return keyRefusal(joinKey, now) === undefined && (joinKey.userId ?? device.userId) === device.userId;
}

/** A known device keeps its name until it asks for another one than before. */
function renewed(network: Network, known: Device, hello: Hello): Device {
  const taken = (name: string): boolean =>
    (network.devices.byName(name) ?? known).id !== known.id ||
    (name !== known.name && network.isReserved?.(name) === true);
  // An exit node's name is what people chose it by: when the new one is taken, the old one stays.
  const renames = hello.name !== known.wantedName && !(known.role === "exit-node" && taken(hello.name));
  return {
    ...known,
    name: renames ? freeName(hello.name, taken) : known.name,
    wantedName: hello.name,
    publicKey: hello.publicKey,
    report: hello.report,
    ...spokenFor(known, hello),
    agentVersion: hello.agentVersion,
  };
}

/** What has been signed is the lock key: a signature stays for as long as the device keeps that. */
function spokenFor({ lock: before }: Device, { lock: said }: Hello): Pick<Device, "lock"> {
  if (said === undefined) return {};
  const signature = before?.key === said.key ? before.signature : undefined;
  return { lock: { ...said, ...(signature === undefined ? {} : { signature }) } };
}

const LABEL_CHARACTERS_MAX = 63;

/** The name, or the first of name-2, name-3 … that is free; shortened to stay a DNS label. */
export function freeName(wanted: string, taken: (name: string) => boolean): string {
  if (!taken(wanted)) return wanted;
  for (let n = 2; ; n++) {
    const suffix = `-${n}`;
    const name = wanted.slice(0, LABEL_CHARACTERS_MAX - suffix.length).replace(/-+$/, "") + suffix;
    if (!taken(name)) return name;
  }
}

const refuse = (code: Refusal): Entrance => ({ kind: "refused", code });

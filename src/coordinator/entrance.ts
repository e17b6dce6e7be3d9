import type { Cidr } from "../kit/ip.js";
import type { Key } from "../kit/key.js";
import type { Millis } from "../kit/time.js";
import { CONTROL_VERSION, type Refusal, type ToCoordinator } from "../wire/control.js";
import { nextAddresses } from "./addresses.js";
import { type Device, isMember } from "./device.js";
import { keyRefusal, type StoredKey } from "./joinkeys.js";

export type Hello = Extract<ToCoordinator, { type: "hello" }>;

/** Who is let in, as whom. */
export type Entrance =
  | { readonly kind: "refused"; readonly code: Refusal }
  /** A machine that is a member already, with what it now says of itself. */
  | { readonly kind: "known"; readonly device: Device }
  | { readonly kind: "new"; readonly device: Device; readonly by: StoredKey };

export type Network = {
  /** Revoked ones too: they hold their name and addresses until they are removed. */
  readonly devices: readonly Device[];
  readonly range: Cidr;
  readonly ula: Cidr;
  readonly devicesMax: number;
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
  const known = network.devices.find((device) => device.machineKey === machineKey);
  if (known?.revokedAtMs !== undefined) return refuse("device-revoked");
  // Two members with one WireGuard key: the peers could not tell them apart, and one would get the other's packets.
  const twin = network.devices.some((one) => one !== known && isMember(one) && one.publicKey === hello.publicKey);
  // A machine that is in needs no key: a lost answer to its first hello costs nothing, the key being used up by it.
  if (known !== undefined)
    return twin ? refuse("key-taken") : { kind: "known", device: renewed(network, known, hello) };

  if (hello.joinSecret === undefined) return refuse("join-key-required");
  const refusal = keyRefusal(joinKey, now);
  if (refusal !== undefined || joinKey === undefined) return refuse(refusal ?? "join-key-unknown");
  if (twin) return refuse("key-taken");
  if (network.devices.length >= network.devicesMax) return refuse("full");
  const wanted = joinKey.name ?? hello.name;
  const taken = new Set(network.devices.map((device) => device.name));
  if (joinKey.role === "exit-node" && taken.has(wanted)) return refuse("name-taken");
  const addresses = nextAddresses(
    network.range,
    network.ula,
    new Set(network.devices.flatMap((device) => [device.ipv4, device.ipv6])),
  );
  if (addresses === undefined) return refuse("full");
  const device: Device = {
    id,
    name: freeName(wanted, taken),
    wantedName: hello.name,
    role: joinKey.role,
    machineKey,
    publicKey: hello.publicKey,
    ...addresses,
    report: hello.report,
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

/** A known device keeps its name until it asks for another one than before. */
function renewed(network: Network, known: Device, hello: Hello): Device {
  const taken = new Set(network.devices.filter((one) => one !== known).map((one) => one.name));
  // An exit node's name is what people chose it by: when the new one is taken, the old one stays.
  const renames = hello.name !== known.wantedName && !(known.role === "exit-node" && taken.has(hello.name));
  return {
    ...known,
    name: renames ? freeName(hello.name, taken) : known.name,
    wantedName: hello.name,
    publicKey: hello.publicKey,
    report: hello.report,
    agentVersion: hello.agentVersion,
  };
}

const LABEL_CHARACTERS_MAX = 63;

/** The name, or the first of name-2, name-3 … that is free; shortened to stay a DNS label. */
export function freeName(wanted: string, taken: ReadonlySet<string>): string {
  if (!taken.has(wanted)) return wanted;
  for (let n = 2; ; n++) {
    const suffix = `-${n}`;
    const name = wanted.slice(0, LABEL_CHARACTERS_MAX - suffix.length).replace(/-+$/, "") + suffix;
    if (!taken.has(name)) return name;
  }
}

const refuse = (code: Refusal): Entrance => ({ kind: "refused", code });

import { tryEndpoint } from "../kit/endpoint.js";
import { Failure } from "../kit/failure.js";
import { type Cidr, familyOf, type Ip, isPrivate } from "../kit/ip.js";
import type { Key } from "../kit/key.js";
import type { Millis } from "../kit/time.js";
import type { AddedApp, AppRequest, DeviceInfo } from "../wire/adminapi.js";
import { REFUSALS } from "../wire/control.js";
import type { DeviceLock } from "../wire/lock.js";
import { type Device, isMember } from "./device.js";
import { usableEndpoints } from "./endpoints.js";
import type { Network } from "./entrance.js";
import type { NetworkFacts } from "./netmap.js";
import { approvedRoutes } from "./routes.js";

/**
 * WireGuard apps, as on a phone: devices without an agent. What an app knows is in its configuration, which is made
 * once: one exit node, by its key and its address.
 */

export type WantedApp = Pick<AppRequest, "exit" | "endpoint"> & {
  readonly name: string;
  readonly publicKey: Key;
  readonly userId: string | undefined;
  readonly tags: readonly string[];
  readonly lock: DeviceLock | undefined;
};

/** What is made for it: an app has no machine key, and whatever stands in its place must be nobody's. */
type Made = { readonly id: string; readonly machineKey: Key; readonly approvedAtMs: Millis | undefined };

/** The app as a device of the network. */
export function newApp(network: Network, exit: Device, wanted: WantedApp, made: Made, now: Millis): Device {
  const { devices, range, ula, devicesMax } = network;
  const { name, publicKey, userId, lock } = wanted;
  if (devices.byName(name) !== undefined)
    throw new Failure("name-taken", `a device is called "${name}" already`, {
      advice: `exitnode device remove ${name}    (if it is to take that one's place)`,
    });
  if (devices.memberByPublicKey(publicKey) !== undefined) throw new Failure("key-taken", REFUSALS["key-taken"]);
  const addresses = devices.size < devicesMax ? devices.nextAddresses(range, ula) : undefined;
  if (addresses === undefined)
    throw new Failure("devices-full", REFUSALS.full, { advice: "exitnode device remove <device>" });
  const { approvedAtMs, ...ids } = made;
  return {
    ...ids,
    ...{ name, wantedName: name, role: "device", publicKey, ...addresses },
    report: { endpoints: [], routes: [], resolvers: [] },
    agentVersion: "",
    createdAtMs: now,
    ...(userId === undefined ? {} : { userId }),
    tags: [...new Set(wanted.tags)].sort(),
    ephemeral: false,
    ...(approvedAtMs === undefined ? {} : { approvedAtMs }),
    approvedRoutes: [],
    ...(lock === undefined ? {} : { lock }),
    app: { exitId: exit.id, exitKey: exit.publicKey, endpoint: wanted.endpoint ?? openEndpoint(network, exit) },
  };
}

/** Named in a message. */
const EXITS_NAMED_MAX = 8;

/** The exit node of that id or name; without one, the only one there is. */
export function exitFor(devices: Iterable<Device>, { exit: wanted, name }: Pick<WantedApp, "exit" | "name">): Device {
  const exits = [...devices].filter((device) => device.role === "exit-node" && isMember(device));
  const found = wanted === undefined ? exits : exits.filter((exit) => exit.id === wanted || exit.name === wanted);
  const [one] = found;
  if (one !== undefined && found.length === 1) return one;
  const names = exits.map((exit) => exit.name).slice(0, EXITS_NAMED_MAX);
  const advice = names[0] === undefined ? "exitnode create" : `exitnode device add ${name} --exit ${names[0]}`;
  if (names.length === 0) throw new Failure("exit-unknown", "there is no exit node yet", { advice });
  if (wanted === undefined)
    throw new Failure("exit-unsaid", `there are several exit nodes: ${names.join(", ")}`, { advice });
  throw new Failure("exit-unknown", `there is no exit node "${wanted}"; known: ${names.join(", ")}`, { advice });
}

/** Where a stranger gets in, as the exit node says. */
function openEndpoint({ range, ula }: Network, exit: Device): string {
  const usable = (texts: readonly string[]): string[] => usableEndpoints(texts, [range, ula]);
  const [open] = usable(exit.report.open ?? []);
  if (open !== undefined) return open;
  const known = usable(exit.report.endpoints).flatMap((text) => tryEndpoint(text) ?? []);
  const inside = known.find(({ address }) => isPrivate(address) && familyOf(address) === 4);
  const outside = known.find(({ address }) => !isPrivate(address) && familyOf(address) === 4);
  const port = inside?.port ?? 51_820;
  throw new Failure(
    "endpoint-unknown",
    `nobody is known to get in at ${exit.name} from outside, and a WireGuard app can neither cross a NAT nor use a relay`,
    {
      advice:
        `forward udp/${port} on the router to ${inside?.address ?? `${exit.name}'s address`}, ` +
        `then again with --endpoint ${outside?.address ?? "HOST"}:${outside === undefined ? port : outside.port}`,
    },
  );
}

/** Whether WireGuard apps know the exit node by its key, which it therefore keeps. */
export function isKeyKept({ id, role }: Device, devices: ReadonlyMap<string, Device>): boolean {
  if (role !== "exit-node") return false;
  for (const device of devices.values()) if (device.app?.exitId === id && isMember(device)) return true;
  return false;
}

/** The app's part of what administrators are told of a device. */
export function describeApp({ app }: Device, devices: ReadonlyMap<string, Device>): Pick<DeviceInfo, "app"> {
  if (app === undefined) return {};
  const exit = devices.get(app.exitId);
  const stale = staleBy(app, exit);
  const shown = { exit: exit?.name ?? app.exitId, endpoint: app.endpoint };
  return { app: stale === undefined ? shown : { ...shown, stale } };
}

type Stale = NonNullable<NonNullable<DeviceInfo["app"]>["stale"]>;

function staleBy({ exitKey, endpoint }: NonNullable<Device["app"]>, exit: Device | undefined): Stale | undefined {
  if (exit === undefined || !isMember(exit)) return "exit";
  if (exit.publicKey !== exitKey) return "key";
  // A name is looked up anew by the app, and an address that the exit node does not know of now proves nothing.
  const dialled = tryEndpoint(endpoint)?.address;
  if (dialled === undefined) return undefined;
  const seen = [...(exit.report.open ?? []), ...exit.report.endpoints].flatMap((text) => tryEndpoint(text) ?? []);
  const comparable = seen.filter(({ address }) => familyOf(address) === familyOf(dialled) && !isPrivate(address));
  const hasMoved = comparable.length > 0 && !comparable.some(({ address }) => address === dialled);
  return hasMoved && !isPrivate(dialled) ? "address" : undefined;
}

/** What the app's configuration says beyond the device itself. */
export function tunnelTo(exit: Device, { ranges, mtu, names }: NetworkFacts): AddedApp["tunnel"] {
  const carries = (ip: Ip): boolean =>
    approvedRoutes(exit).includes((familyOf(ip) === 4 ? "0.0.0.0/0" : "::/0") as Cidr);
  const own = exit.report.resolvers.filter(carries);
  // As an agent does: the exit node's own, else the network's, of which a private one is another machine there.
  const told = (names?.resolvers ?? []).filter((ip) => carries(ip) && !isPrivate(ip));
  return { exitKey: exit.publicKey, ranges: [...ranges], resolvers: own.length > 0 ? own : told, mtu };
}

import type { Cidr } from "../kit/ip.js";
import type { Millis } from "../kit/time.js";
import type { FilterRule } from "../wire/map.js";
import { type Device, isActive } from "./device.js";
import { Access } from "./policy/access.js";
import { filterOf } from "./policy/filter.js";
import { DEFAULT_POLICY, type Policy } from "./policy/policy.js";
import type { Users } from "./policy/standing.js";
import type { Roster } from "./roster.js";

export type VisibilityParts = {
  /** The registry's, live. */
  readonly devices: ReadonlyMap<string, Device> & Partial<Pick<Roster, "version" | "changedSince">>;
  /** The people, live; see `refresh`. */
  readonly users?: Users;
  /** The network's own, which no route may be part of. */
  readonly ranges?: readonly Cidr[];
  readonly wall: () => Millis;
};

const NOBODY: Users = new Map();

/** Who may know of whom: what a device's map holds, and whom a change of a device concerns. */
export class Visibility {
  readonly #parts: VisibilityParts;
  #access: Access;
  /** The version of the devices that it has followed. */
  #followed: number | undefined;

  constructor(parts: VisibilityParts, policy: Policy = DEFAULT_POLICY) {
    this.#parts = parts;
    this.#access = this.over(policy);
  }

  get policy(): Policy {
    return this.#access.policy;
  }

  get ranges(): readonly Cidr[] {
    return this.#parts.ranges ?? [];
  }

  /** Another policy, or people that are not as they were: every map may be another one afterwards. */
  refresh(policy: Policy = this.policy): void {
    this.#access = this.over(policy);
    this.#followed = this.#parts.devices.version;
  }

  /** As it is: to be compared with what would be. */
  get access(): Access {
    return this.#current();
  }

  /** A policy over the devices there are now, to be asked what would be. */
  over(policy: Policy): Access {
    const { devices, users = NOBODY } = this.#parts;
    const access = new Access(policy, users, this.ranges);
    access.follow(devices);
    return access;
  }

  /** The same both ways. */
  mayKnow(device: Device, other: Device): boolean {
    const now = this.#parts.wall();
    if (device.id === other.id || !isActive(device, now) || !isActive(other, now)) return false;
    return this.#with(device, other).knows(device.id, other.id);
  }

  /** In the order of their ids, whoever asks. */
  peersOf(device: Device): Device[] {
    const peers: Device[] = [];
    for (const id of [...this.#activePeers(device)].sort()) {
      const peer = this.#parts.devices.get(id);
      if (peer !== undefined) peers.push(peer);
    }
    return peers;
  }

  /** The routes through a peer that are approved, and that the policy lets the viewer use. */
  routesFor(viewer: Device, peer: Device): Cidr[] {
    return this.#with(viewer, peer).routesFor(viewer.id, peer.id);
  }

  /** What somebody who is not in yet would be to a peer; undefined: nothing. */
  prospect(newcomer: Device, peer: Device): { readonly routes: readonly Cidr[] } | undefined {
    const access = this.over(this.policy);
    access.see(newcomer, newcomer.id);
    return access.knows(newcomer.id, peer.id) ? { routes: access.routesFor(newcomer.id, peer.id) } : undefined;
  }

  /** Every approved route of a device, by an administrator or the policy. */
  routesOf(device: Device): Cidr[] {
    const standing = this.#with(device).standing(device.id);
    return standing === undefined ? [] : [...standing.exits, ...standing.subnets];
  }

  /** What a device lets in from the tunnel. */
  filterOf(device: Device): FilterRule[] {
    return filterOf(this.#access, device.id, this.#activePeers(device), this.ranges);
  }

  #activePeers(device: Device): Set<string> {
    const { devices, wall } = this.#parts;
    const now = wall();
    if (!isActive(device, now)) return new Set();
    const peers = this.#current().peersOf(device.id);
    for (const id of peers) {
      const peer = devices.get(id);
      if (peer === undefined || !isActive(peer, now)) peers.delete(id);
    }
    return peers;
  }

  /** A question about these alone needs no walk. */
  #with(...devices: readonly Device[]): Access {
    for (const device of devices) this.#access.see(device, device.id);
    return this.#access;
  }

  /** Without versions a walk of comparisons, 1 ms for 10,000 devices: no change can be missed, whoever makes it. */
  #current(): Access {
    const { devices } = this.#parts;
    const { version } = devices;
    if (version !== undefined && version === this.#followed) return this.#access;
    const changed = this.#followed === undefined ? undefined : devices.changedSince?.(this.#followed);
    if (changed === undefined) this.#access.follow(devices);
    else for (const id of changed) this.#access.see(devices.get(id), id);
    this.#followed = version;
    return this.#access;
  }
}

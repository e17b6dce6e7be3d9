import type { Cidr } from "../../kit/ip.js";
import { canMeet, type Device } from "../device.js";
import type { Grant, Policy } from "./policy.js";
import { overlap } from "./prefixes.js";
import { isSelf, type Reach, reachOf, type Standing, sourcesOf, standingOf, type Users } from "./standing.js";

/** A device among the grants, by the grants' places in the policy. */
type Member = {
  readonly device: Device;
  readonly standing: Standing;
  /** Its addresses as a source. */
  readonly from: ReadonlyMap<number, readonly Cidr[]>;
  readonly to: ReadonlyMap<number, Reach>;
};

/** Whoever gets in by one grant, and where to. */
export type Door = {
  readonly grant: Grant;
  readonly index: number;
  /** Device ids, in the order in which they joined. */
  readonly sources: readonly string[];
  readonly reach: Reach;
};

/**
 * A policy over the devices there are: who may reach whom. A device that is not as it was costs as much as there are
 * grants, and a question about one as much as it has peers, however many devices there are.
 */
export class Access {
  readonly policy: Policy;
  readonly #users: Users;
  readonly #ranges: readonly Cidr[];
  readonly #members = new Map<string, Member>();
  readonly #sources: Set<string>[];
  readonly #targets: Set<string>[];
  /** Grants among the devices of one owner, by their place. */
  readonly #selves: readonly number[];
  readonly #byOwner = new Map<string, Set<string>>();
  /** Of WireGuard apps, which have one peer each. */
  readonly #apps = new Set<string>();

  constructor(policy: Policy, users: Users, ranges: readonly Cidr[]) {
    this.policy = policy;
    this.#users = users;
    this.#ranges = ranges;
    this.#sources = policy.grants.map(() => new Set<string>());
    this.#targets = policy.grants.map(() => new Set<string>());
    this.#selves = policy.grants.flatMap(({ dst }, i) => (isSelf(dst) ? [i] : []));
  }

  /** Follows the devices; those that are the same values as before cost a comparison. */
  follow(devices: ReadonlyMap<string, Device>): void {
    for (const [id, device] of devices) this.see(device, id);
    if (this.#members.size === devices.size) return;
    for (const id of this.#members.keys()) if (!devices.has(id)) this.#remove(id);
  }

  /** Follows one device; undefined: it is no more. */
  see(device: Device | undefined, id: string): void {
    if (device === undefined) this.#remove(id);
    else if (this.#members.get(id)?.device !== device) this.#put(device);
  }

  /** By the policy alone, whether or not either is active. */
  mayReach(fromId: string, toId: string): boolean {
    const [from, to] = [this.#members.get(fromId), this.#members.get(toId)];
    if (from === undefined || to === undefined || fromId === toId) return false;
    if (!canMeet(from.device, to.device)) return false;
    for (const index of from.from.keys()) if (to.to.has(index)) return true;
    return this.#isOwn(from, to) && this.#selves.some((index) => from.from.has(index));
  }

  knows(oneId: string, otherId: string): boolean {
    return this.mayReach(oneId, otherId) || this.mayReach(otherId, oneId);
  }

  /** Everybody who may reach the device, or whom it may reach. */
  peersOf(id: string): Set<string> {
    const found = new Set<string>();
    const member = this.#members.get(id);
    if (member === undefined) return found;
    const add = (ids: Iterable<string>): void => {
      for (const one of ids) found.add(one);
    };
    for (const index of member.from.keys()) add(this.#targets[index] ?? []);
    for (const index of member.to.keys()) add(this.#sources[index] ?? []);
    for (const other of this.#own(member)) if (!found.has(other) && this.knows(id, other)) found.add(other);
    found.delete(id);
    for (const other of member.device.app === undefined ? this.#apps : [...found]) {
      const device = this.#members.get(other)?.device;
      if (device !== undefined && !canMeet(member.device, device)) found.delete(other);
    }
    return found;
  }

  /** Who gets in at a device, grant by grant in the policy's order; of the ids that may. */
  doorsOf(id: string, among: ReadonlySet<string>): Door[] {
    const member = this.#members.get(id);
    if (member === undefined) return [];
    const { standing } = member;
    return this.policy.grants.flatMap((grant, index) => {
      const doors: Door[] = [];
      const reach = member.to.get(index);
      const from = (one: string): boolean => this.#members.get(one)?.from.has(index) === true;
      if (reach !== undefined) doors.push({ grant, index, sources: [...among].filter(from), reach });
      if (this.#selves.includes(index)) {
        const own = this.#own(member);
        const sources = [...among].filter((one) => own.has(one) && from(one));
        doors.push({ grant, index, sources, reach: { inside: standing.own, beyond: [], exits: [] } });
      }
      return doors.filter(({ sources }) => sources.length > 0);
    });
  }

  /** The addresses a device has as a source of a grant. */
  sourcesAt(id: string, index: number): readonly Cidr[] {
    return this.#members.get(id)?.from.get(index) ?? [];
  }

  standing(id: string): Standing | undefined {
    return this.#members.get(id)?.standing;
  }

  /** What a device may send through another, beyond that one's own addresses. */
  routesFor(viewerId: string, peerId: string): Cidr[] {
    const [viewer, peer] = [this.#members.get(viewerId), this.#members.get(peerId)];
    if (viewer === undefined || peer === undefined) return [];
    const { subnets, exits } = peer.standing;
    if (subnets.length === 0 && exits.length === 0) return [];
    const reaches = [...viewer.from.keys()].flatMap((index) => peer.to.get(index) ?? []);
    return [
      ...exits.filter((exit) => reaches.some((reach) => reach.exits.includes(exit))),
      ...subnets.filter((subnet) => reaches.some(({ inside }) => inside.some((part) => overlap(part, subnet)))),
    ];
  }

  #isOwn(one: Member, other: Member): boolean {
    return one.standing.owner !== undefined && one.standing.owner === other.standing.owner;
  }

  #own({ standing: { owner } }: Member): ReadonlySet<string> {
    return (owner === undefined ? undefined : this.#byOwner.get(owner)) ?? new Set();
  }

  #put(device: Device): void {
    const before = this.#members.get(device.id);
    const standing = standingOf(device, this.policy, this.#users, this.#ranges);
    // Most changes of a device, as of its endpoints, are none here.
    if (before !== undefined && same(before.standing, standing)) {
      this.#members.set(device.id, { ...before, device });
      return;
    }
    this.#remove(device.id);
    const from = new Map<number, readonly Cidr[]>();
    const to = new Map<number, Reach>();
    for (const [index, { src, dst, via }] of this.policy.grants.entries()) {
      const sources = sourcesOf(src, standing);
      if (sources.length > 0) from.set(index, sources);
      const reach = reachOf(dst, via, standing, this.#ranges);
      if (reach !== undefined) to.set(index, reach);
    }
    this.#members.set(device.id, { device, standing, from, to });
    if (device.app !== undefined) this.#apps.add(device.id);
    for (const index of from.keys()) this.#sources[index]?.add(device.id);
    for (const index of to.keys()) this.#targets[index]?.add(device.id);
    if (standing.owner === undefined) return;
    const own = this.#byOwner.get(standing.owner) ?? new Set();
    this.#byOwner.set(standing.owner, own.add(device.id));
  }

  #remove(id: string): void {
    const member = this.#members.get(id);
    if (member === undefined) return;
    this.#members.delete(id);
    this.#apps.delete(id);
    for (const index of member.from.keys()) this.#sources[index]?.delete(id);
    for (const index of member.to.keys()) this.#targets[index]?.delete(id);
    const { owner } = member.standing;
    const own = owner === undefined ? undefined : this.#byOwner.get(owner);
    own?.delete(id);
    if (owner !== undefined && own?.size === 0) this.#byOwner.delete(owner);
  }
}

const text = ({ keys, ...rest }: Standing): string => JSON.stringify([[...keys], rest]);
const same = (one: Standing, other: Standing): boolean => text(one) === text(other);

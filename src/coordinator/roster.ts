import type { Cidr, Ip } from "../kit/ip.js";
import type { Key } from "../kit/key.js";
import { nextAddresses } from "./addresses.js";
import { type Device, isMember } from "./device.js";

/** Changes that are told one by one; who is further behind looks at every device. */
const CHANGES_KEPT = 1_024;

/**
 * The devices by id, in the order they joined, and what a newcomer is compared with: looked up and not searched, for
 * ten thousand may come at once.
 */
export class Roster extends Map<string, Device> {
  readonly #byMachineKey = new Map<Key, string>();
  /** A key that was brought by two is the later one's; a twin is refused, so that none stays. */
  readonly #byPublicKey = new Map<Key, string>();
  readonly #byName = new Map<string, string>();
  readonly #addresses = new Set<Ip>();
  /** No offset below it is free. */
  #freeFrom = 1n;
  #version = 0;
  /** The id of every change up to the newest one, as far back as they are kept. */
  #changes: string[] = [];

  static of(devices: Iterable<Device>): Roster {
    const roster = new Roster();
    for (const device of devices) roster.set(device.id, device);
    return roster;
  }

  /** Another one after every change. */
  get version(): number {
    return this.#version;
  }

  /** Who was set or deleted since that version; undefined when it is too long ago to tell. */
  changedSince(version: number): ReadonlySet<string> | undefined {
    const count = this.#version - version;
    return count < 0 || count > this.#changes.length
      ? undefined
      : new Set(count === 0 ? [] : this.#changes.slice(-count));
  }

  byMachineKey(key: Key): Device | undefined {
    return this.get(this.#byMachineKey.get(key) ?? "");
  }

  /** Who is called so, revoked or not. */
  byName(name: string): Device | undefined {
    return this.get(this.#byName.get(name) ?? "");
  }

  /** The member that has the WireGuard key. */
  memberByPublicKey(key: Key): Device | undefined {
    const device = this.get(this.#byPublicKey.get(key) ?? "");
    return device !== undefined && isMember(device) ? device : undefined;
  }

  /** The next free pair; undefined when the range is full. */
  nextAddresses(range: Cidr, ula: Cidr): { ipv4: Ip; ipv6: Ip } | undefined {
    const next = nextAddresses(range, ula, this.#addresses, this.#freeFrom);
    if (next === undefined) return undefined;
    const { offset, ...addresses } = next;
    this.#freeFrom = offset;
    return addresses;
  }

  /** Undefined: it is no more. */
  put(id: string, device: Device | undefined): void {
    if (device === undefined) this.delete(id);
    else this.set(id, device);
  }

  override set(id: string, device: Device): this {
    const before = this.get(id);
    if (before !== undefined) this.#forget(before);
    super.set(id, device);
    this.#byMachineKey.set(device.machineKey, id);
    // A revoked device's key may have been taken up by another.
    if (isMember(device) || !this.#byPublicKey.has(device.publicKey)) this.#byPublicKey.set(device.publicKey, id);
    this.#byName.set(device.name, id);
    this.#addresses.add(device.ipv4).add(device.ipv6);
    this.#note(id);
    return this;
  }

  override delete(id: string): boolean {
    const before = this.get(id);
    if (before === undefined) return false;
    this.#forget(before);
    this.#freeFrom = 1n;
    this.#note(id);
    return super.delete(id);
  }

  override clear(): void {
    for (const id of [...this.keys()]) this.delete(id);
  }

  #note(id: string): void {
    this.#version++;
    this.#changes.push(id);
    if (this.#changes.length > 2 * CHANGES_KEPT) this.#changes = this.#changes.slice(-CHANGES_KEPT);
  }

  #forget({ id, machineKey, publicKey, name, ipv4, ipv6 }: Device): void {
    if (this.#byMachineKey.get(machineKey) === id) this.#byMachineKey.delete(machineKey);
    if (this.#byPublicKey.get(publicKey) === id) this.#byPublicKey.delete(publicKey);
    if (this.#byName.get(name) === id) this.#byName.delete(name);
    this.#addresses.delete(ipv4);
    this.#addresses.delete(ipv6);
  }
}

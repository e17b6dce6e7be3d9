import { Failure } from "../../kit/failure.js";
import type { Device } from "../device.js";
import { type People, requireEnabled } from "../identity/people.js";
import { isConfined } from "../identity/roles.js";
import type { Registry } from "../registry.js";
import type { Caller } from "./caller.js";

/** Whose things a caller may see and change: all of them or, as a member of no other role, their own. */
export class Reach {
  readonly #people: Pick<People, "users" | "find">;

  constructor(people: Pick<People, "users" | "find">) {
    this.#people = people;
  }

  /** A person who is known no more reaches nothing of anybody's. */
  isConfined({ userId }: Caller): boolean {
    if (userId === undefined) return false;
    const user = this.#people.users.get(userId);
    return user === undefined || isConfined(user.role);
  }

  has(caller: Caller, ownerId: string | undefined): boolean {
    return !this.isConfined(caller) || (ownerId !== undefined && ownerId === caller.userId);
  }

  /** What is somebody else's is answered as what does not exist: a name is nobody's to guess. */
  device(registry: Registry, caller: Caller, idOrName: string): Device {
    const device = registry.find(idOrName);
    if (this.has(caller, device.userId)) return device;
    throw new Failure("device-unknown", `no device is called "${idOrName}"`, { advice: "exitnode device list" });
  }

  /** Whose `what` is to be, as the caller asks for: a member's are their own, and others' nobody's unless they say so. */
  owner(caller: Caller, user: string | undefined, what: string): string | undefined {
    const own = caller.userId === undefined ? undefined : this.#people.users.get(caller.userId);
    const isOwn = own !== undefined && (user === own.id || user === own.login);
    if (user !== undefined && !isOwn) this.refuseConfined(caller, `${what} of somebody else's`);
    if (user === undefined) return this.isConfined(caller) ? caller.userId : undefined;
    const owner = this.#people.find(user);
    requireEnabled(owner);
    return owner.id;
  }

  /** For what decides over a network and not over one's own. */
  refuseConfined(caller: Caller, what: string): void {
    if (this.isConfined(caller))
      throw new Failure("scope-missing", `${what} is for administrators`, { advice: "ask an administrator to do it" });
  }
}

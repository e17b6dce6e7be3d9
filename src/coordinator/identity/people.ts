import { toHex } from "../../kit/bytes.js";
import { Failure } from "../../kit/failure.js";
import type { Millis } from "../../kit/time.js";
import type { Random } from "../../sys/random.js";
import type { MemberRole, UserChange } from "../../wire/identity.js";
import type { Actor } from "../actor.js";
import type { ChangeFeed } from "../changefeed.js";
import { type Device, isMember } from "../device.js";
import type { Registry } from "../registry.js";
import type { Store } from "../store/store.js";
import type { Turn } from "../turn.js";
import type { Vouched } from "./claims.js";
import { isEnabled, type User } from "./user.js";

/** Kept at once. */
const USERS_MAX = 10_000;
/** How exactly it is known when somebody was last here: a write less for every request. */
const SEEN_STEP_MS: Millis = 60_000;

export type PeopleParts = {
  readonly store: Store;
  readonly registry: Registry;
  /** Where the store is shared: what other coordinators change. */
  readonly feed?: ChangeFeed;
  readonly random: Random;
  readonly wall: () => Millis;
  /** Tells whom it concerns that a device's key has ended. */
  readonly changed: (device: Device) => void;
  /** Somebody came, or is not as they were. */
  readonly peopleChanged?: () => void;
};

/** The people: in memory to be read, in the store to last. */
export class People {
  readonly #parts: PeopleParts;
  readonly #users = new Map<string, User>();

  private constructor(parts: PeopleParts) {
    this.#parts = parts;
  }

  static async open(parts: PeopleParts): Promise<People> {
    const people = new People(parts);
    const read = async (view: Pick<Store["view"], "users">): Promise<void> => people.#keep(await view.users.all());
    // People change rarely: all are read anew.
    parts.feed?.on("member", read);
    await read(parts.store.view);
    return people;
  }

  /** By id, in the order they came; disabled ones too. */
  get users(): ReadonlyMap<string, User> {
    return this.#users;
  }

  /** By id or by login. */
  find(idOrLogin: string): User {
    const user = this.#users.get(idOrLogin) ?? this.byLogin(idOrLogin.toLowerCase());
    if (user === undefined)
      throw new Failure("user-unknown", `nobody is called "${idOrLogin}"`, { advice: "exitnode user list" });
    return user;
  }

  byLogin(login: string): User | undefined {
    return [...this.#users.values()].find((user) => user.login === login);
  }

  add(wanted: { login: string; displayName?: string | undefined; role: MemberRole }, by: Actor): Promise<User> {
    return this.#change(async (turn) => {
      if (this.byLogin(wanted.login) !== undefined)
        throw new Failure("login-taken", `somebody is called "${wanted.login}" already`, {
          advice: "exitnode user list",
        });
      const { login, displayName = login, role } = wanted;
      return this.#make({ login, displayName, role }, turn, by);
    });
  }

  /**
   * A disabled person is out at once: sessions end, the keys of their devices, and the join keys for more of these;
   * enabled again, they sign in anew.
   */
  amend(idOrLogin: string, wanted: UserChange, by: Actor): Promise<User> {
    const ended: Device[] = [];
    return this.#change(async ({ view, now, put, note }) => {
      const before = this.find(idOrLogin);
      const { role = before.role, disabled = !isEnabled(before) } = wanted;
      const { disabledAtMs, ...rest } = before;
      const user: User = { ...rest, role, ...(disabled ? { disabledAtMs: disabledAtMs ?? now } : {}) };
      if (user.role === before.role && user.disabledAtMs === disabledAtMs) return before;
      await view.users.update(user);
      // Whatever was opened with the old authority is opened anew with the new one.
      await view.sessions.removeOf(user.id);
      if (disabled) {
        await view.invites.removeOf(user.id);
        await view.joinKeys.revokeOf(user.id, now);
        for (const device of this.#parts.registry.devices.values()) {
          const ends = device.userId === user.id && isMember(device) && now < (device.keyExpiresAtMs ?? now + 1);
          if (!ends) continue;
          const expired: Device = { ...device, keyExpiresAtMs: now };
          await put(expired);
          ended.push(expired);
        }
      }
      if (user.role !== before.role) note(by, "user.role", user.id, { login: user.login, role });
      if (user.disabledAtMs !== disabledAtMs)
        note(by, disabled ? "user.disable" : "user.enable", user.id, { login: user.login });
      return user;
    }).then((user) => {
      for (const device of ended) this.#parts.changed(device);
      return user;
    });
  }

  /**
   * The person that an identity provider vouches for. The subject counts, not the address, which may be given to
   * somebody else one day; an address that was added before is bound to the first subject that comes with it.
   */
  vouched({ issuer, subject, login, displayName, mayJoin }: Vouched, remote: string): Promise<User> {
    return this.#change(async (turn) => {
      const known = [...this.#users.values()].find((user) => user.issuer === issuer && user.subject === subject);
      const added = known ?? this.byLogin(login);
      if (added !== undefined && added !== known && added.subject !== undefined)
        throw new Failure("sign-in-refused", `${login} is somebody else's here`, {
          advice: "ask whoever administers this network",
        });
      if (added === undefined && !mayJoin)
        throw new Failure("sign-in-refused", `${login} may not sign in to this network`, {
          advice: `whoever administers it can let you in: exitnode user add ${login}`,
        });
      if (added !== undefined) requireEnabled(added);
      const by = { name: "coordinator", remote };
      if (added === undefined) return this.#make({ login, displayName, role: "member", issuer, subject }, turn, by);
      if (known !== undefined) return known;
      const user: User = { ...added, issuer, subject, displayName };
      await turn.view.users.update(user);
      await turn.note(by, "user.bind", user.id, { login, issuer });
      return user;
    });
  }

  /** Whoever has them cannot sign in any more, nor go on where they are signed in. */
  forgetPasskeys(idOrLogin: string, by: Actor): Promise<User> {
    return this.#change(async ({ view, note }) => {
      const user = this.find(idOrLogin);
      for (const { id } of await view.passkeys.of(user.id)) await view.passkeys.remove(id);
      await view.sessions.removeOf(user.id);
      note(by, "passkey.remove", user.id, { login: user.login });
      return user;
    });
  }

  /** They are here now. */
  async seen(user: User): Promise<void> {
    const now = this.#parts.wall();
    if (now - (user.lastSeenAtMs ?? 0) < SEEN_STEP_MS) return;
    await this.#parts.store.change(({ users }) => users.seen(user.id, now));
    this.#users.set(user.id, { ...(this.#users.get(user.id) ?? user), lastSeenAtMs: now });
  }

  async #make(wanted: Omit<User, "id" | "createdAtMs">, { view, now, note }: Turn, by: Actor): Promise<User> {
    if (this.#users.size >= USERS_MAX)
      throw new Failure("users-full", `${USERS_MAX} people are known already, and no more are kept`);
    const user: User = { ...wanted, id: `u${toHex(this.#parts.random(8))}`, createdAtMs: now };
    await view.users.add(user);
    note(by, "user.add", user.id, { login: user.login, role: user.role });
    return user;
  }

  /** One change; memory follows when the store has it. */
  async #change(decide: (turn: Turn) => Promise<User>): Promise<User> {
    const user = await this.#parts.registry.change(decide);
    const isNews = this.#users.get(user.id) !== user;
    this.#users.set(user.id, user);
    if (isNews) this.#parts.peopleChanged?.();
    return user;
  }

  #keep(users: readonly User[]): void {
    this.#users.clear();
    for (const user of users) this.#users.set(user.id, user);
  }
}

export function requireEnabled(user: User): void {
  if (!isEnabled(user))
    throw new Failure("sign-in-refused", `${user.login} may not sign in any more`, {
      advice: `whoever administers the network can change that: exitnode user enable ${user.login}`,
    });
}

import { toBase64Url, toHex, utf8 } from "../../kit/bytes.js";
import { hash } from "../../kit/crypto.js";
import { Failure } from "../../kit/failure.js";
import { HOUR, type Millis } from "../../kit/time.js";
import type { Random } from "../../sys/random.js";
import type { Actor } from "../actor.js";
import type { Store } from "../store/store.js";
import { type People, requireEnabled } from "./people.js";
import type { User } from "./user.js";
import { passkeysUnavailable, type WebAddress } from "./webaddress.js";

const INVITE_LIFETIME_MS: Millis = 24 * HOUR;
export const INVITE_PATH = "/invite";
const SECRET_BYTES = 32;

export type InvitesParts = {
  readonly store: Store;
  readonly people: People;
  readonly address: WebAddress;
  readonly random: Random;
  readonly wall: () => Millis;
};

/** One-time links with which a person enrols a passkey. The secret is in the fragment, which no server's log gets. */
export class Invites {
  readonly #parts: InvitesParts;

  constructor(parts: InvitesParts) {
    this.#parts = parts;
  }

  /** A new one makes an older one useless. */
  async create(idOrLogin: string, by: Actor): Promise<{ login: string; url: string; expiresAtMs: Millis }> {
    const { store, people, address, random, wall } = this.#parts;
    // Before anything about the person: who would be added first, and then cannot be invited, is not added at all.
    if (address.rpId === undefined) throw passkeysUnavailable();
    const user = people.find(idOrLogin);
    requireEnabled(user);
    const secret = toBase64Url(random(SECRET_BYTES));
    const now = wall();
    const expiresAtMs = now + INVITE_LIFETIME_MS;
    await store.change(async ({ invites, audit }) => {
      await invites.prune(now);
      const row = { id: inviteId(secret), user_id: user.id, created_at_ms: now, expires_at_ms: expiresAtMs };
      await invites.add(row);
      await audit.append({ at: now, by, action: "user.invite", target: user.id, details: { login: user.login } });
    });
    return { login: user.login, url: `${address.origin}${INVITE_PATH}#${secret}`, expiresAtMs };
  }

  /** Who was invited by it. */
  async guest(secret: string): Promise<User> {
    const { store, people, wall } = this.#parts;
    const row = await store.view.invites.find(inviteId(secret));
    const user = row === undefined || wall() >= row.expires_at_ms ? undefined : people.users.get(row.user_id);
    if (user === undefined)
      throw new Failure("invite-unknown", "this invitation was used already, has expired, or never was one", {
        advice: "ask for a new one: exitnode user invite <login>",
      });
    requireEnabled(user);
    return user;
  }
}

export const inviteId = (secret: string): string => toHex(hash(utf8(`exitnode invitation ${secret}`)));

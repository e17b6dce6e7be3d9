import type { Millis } from "../../kit/time.js";
import type { MemberRole, UserInfo } from "../../wire/identity.js";

/** A person of the network, as the store keeps them. */
export type User = {
  readonly id: string;
  /** Unique, in lower case: how the policy names them. */
  readonly login: string;
  readonly displayName: string;
  readonly role: MemberRole;
  /** Who vouches for them, and by which name: an OpenID Connect issuer and subject. Undefined: a passkey alone does. */
  readonly issuer?: string;
  readonly subject?: string;
  readonly createdAtMs: Millis;
  readonly lastSeenAtMs?: Millis;
  readonly disabledAtMs?: Millis;
};

export const isEnabled = ({ disabledAtMs }: User): boolean => disabledAtMs === undefined;

export function describeUser(user: User): UserInfo {
  const { id, login, displayName, role, issuer, createdAtMs, lastSeenAtMs, disabledAtMs } = user;
  return {
    ...{ id, login, displayName, role, createdAtMs },
    ...(issuer === undefined ? {} : { issuer }),
    ...(lastSeenAtMs === undefined ? {} : { lastSeenAtMs }),
    ...(disabledAtMs === undefined ? {} : { disabledAtMs }),
  };
}

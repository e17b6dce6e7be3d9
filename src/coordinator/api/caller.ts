import { equalSecrets, fromHex, utf8 } from "../../kit/bytes.js";
import { Failure } from "../../kit/failure.js";
import { sha256 } from "../../kit/sha256.js";
import type { Millis } from "../../kit/time.js";
import type { Scope } from "../../wire/adminapi.js";
import type { Actor } from "../actor.js";
import type { Lockout } from "../lockout.js";

/** Who sent a request, and what they may. */
export type Caller = Actor & {
  /** The person, when it is one. */
  readonly userId?: string;
  may(scope: Scope): boolean;
};

/** How callers are told: whoever reached the socket, or whoever holds a token. */
export type Gate =
  | { readonly kind: "socket" }
  | {
      readonly kind: "token";
      readonly sha256: string;
      readonly lockout: Lockout;
      /** Tells API tokens. */
      readonly tokens?: { callerOf(token: string, remote: string): Promise<Caller | undefined> };
      /** Tells people by their browser's session. */
      readonly sessions?: { callerOf(request: Request, remote: string): Promise<Caller | undefined> };
    };

const everything = (): boolean => true;

/** The caller of a request; a Failure when nobody is told by it. */
export async function callerOf(gate: Gate, request: Request, remote: string, now: Millis): Promise<Caller> {
  if (gate.kind === "socket") return { name: "socket", remote, may: everything };
  if (gate.lockout.isLocked(remote, now))
    throw new Failure("too-many-attempts", "too many wrong tokens came from this address", {
      advice: "wait a minute, then try with the right token",
    });
  // A token goes before a cookie: whoever sends one means it.
  const person =
    request.headers.get("authorization") === null ? await gate.sessions?.callerOf(request, remote) : undefined;
  if (person !== undefined) return person;
  const token = /^Bearer (\S{1,256})$/.exec(request.headers.get("authorization") ?? "")?.[1];
  const expected = fromHex(gate.sha256);
  if (token !== undefined && expected !== undefined && equalSecrets(sha256(utf8(token)), expected)) {
    gate.lockout.succeeded(remote, now);
    return { name: "admin-token", remote, may: everything };
  }
  const known = token === undefined ? undefined : await gate.tokens?.callerOf(token, remote);
  if (known !== undefined) {
    gate.lockout.succeeded(remote, now);
    return known;
  }
  if (token !== undefined) gate.lockout.failed(remote, now);
  throw new Failure("token-refused", "the token is missing, wrong, revoked or expired", {
    advice: "put the coordinator's admin token into credentials.yaml, under coordinator.adminToken",
  });
}

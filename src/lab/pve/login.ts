import type { IncomingMessage } from "node:http";
import { expired, hashSecret } from "./accounts.js";
import type { Caller } from "./permission.js";
import type { Pve } from "./pve.js";
import { Refusal, unauthorized } from "./refusal.js";

/** Who sends this request: a ticket in the cookie wins over a token in the Authorization header. */
export function authenticate(pve: Pve, request: IncomingMessage, verb: string): Caller {
  const ticket = ticketOf(request.headers.cookie);
  if (ticket !== undefined) return byTicket(pve, request, verb, ticket);
  const header = request.headers.authorization;
  const token = /^PVEAPIToken(?:=| )([^;]*)/.exec(header ?? "")?.[1];
  if (token === undefined) throw unauthorized("No ticket");
  return byToken(pve, decodeURIComponent(token));
}

function ticketOf(cookie: string | undefined): string | undefined {
  const value = /(?:^|;\s*)PVEAuthCookie=([^;]*)/.exec(cookie ?? "")?.[1];
  if (value === undefined) return undefined;
  try {
    return decodeURIComponent(value);
  } catch {
    return "";
  }
}

function byTicket(pve: Pve, request: IncomingMessage, verb: string, ticket: string): Caller {
  const user = pve.tickets.userOf(ticket, pve.now());
  if (user === undefined || !enabled(pve, user)) throw unauthorized("Authentication failed!");
  const csrf = request.headers.csrfpreventiontoken;
  if (verb !== "GET" && !(typeof csrf === "string" && pve.tickets.csrfMatches(user, csrf, pve.now())))
    throw unauthorized("Permission denied - invalid csrf token");
  return { user };
}

function byToken(pve: Pve, text: string): Caller {
  const [, user = "", name = "", secret = ""] = /^([^\s:/!]+@[^\s:/!]+)!([^=\s]+)=(\S+)$/.exec(text) ?? [];
  const token = pve.accounts.users[user]?.tokens[name];
  const good =
    token !== undefined &&
    enabled(pve, user) &&
    !expired(token.expire, pve.now()) &&
    hashSecret(secret) === token.secretHash;
  if (!good) throw unauthorized("Authentication failed!");
  return { user, token: name };
}

function enabled(pve: Pve, userid: string): boolean {
  const user = pve.accounts.users[userid];
  return user !== undefined && user.enable !== 0 && !expired(user.expire, pve.now());
}

/** Few calls are for tickets alone. */
export function refuseToken(caller: Caller, path: string): void {
  if (caller.token !== undefined)
    throw new Refusal(403, `URI '${path}' not available with API token, need proper ticket.`);
}

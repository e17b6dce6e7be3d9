import * as z from "zod";
import { Failure } from "../kit/failure.js";
import { formatDuration, type Millis, parseDuration } from "../kit/time.js";
import {
  createdToken,
  SCOPES,
  TOKEN_LIFETIME_MS_DEFAULT,
  TOKEN_LIFETIME_MS_MAX,
  type TokenInfo,
  tokenInfo,
} from "../wire/adminapi.js";
import { callCoordinator, listAll } from "./admin.js";
import type { Call, Outcome } from "./command.js";
import { renderTable } from "./table.js";

export async function createToken(call: Call): Promise<Outcome> {
  const { scope, expires, name } = call.options;
  const scopes = Array.isArray(scope) ? scope : [];
  const unknown = scopes.find((one) => !SCOPES.some((known) => known === one));
  if (scopes.length === 0 || unknown !== undefined)
    throw new Failure("usage", unknown === undefined ? "a token needs a scope" : `there is no scope "${unknown}"`, {
      advice: `one or more of: ${SCOPES.join(", ")}`,
    });
  const wanted = { scopes, lifetimeMs: lifetimeFrom(expires), ...(name === undefined ? {} : { name }) };
  const created = await callCoordinator(call, createdToken, "POST", "/tokens", wanted);
  const text = `${created.token}\n\nmay ${created.scopes.join(", ")} for ${formatDuration(wanted.lifetimeMs)}; to use it:\n  Authorization: Bearer <token>`;
  return { value: created, text };
}

export async function listTokens(call: Call): Promise<Outcome> {
  const tokens = await listAll(call, "/tokens", "tokens", tokenInfo);
  const now = call.parts.clock.wall();
  const rows = tokens.map((token) => [
    token.id,
    token.name,
    stateCell(token, now),
    token.usedAtMs === undefined ? "never" : `${formatDuration(Math.max(0, now - token.usedAtMs))} ago`,
    token.scopes.join(" "),
  ]);
  const text = tokens.length === 0 ? "no tokens" : renderTable([["ID", "NAME", "STATE", "USED", "SCOPES"], ...rows]);
  return { value: { tokens }, text };
}

export async function revokeToken(call: Call): Promise<Outcome> {
  const id = call.args[0] ?? "";
  await callCoordinator(call, z.unknown(), "DELETE", `/tokens/${encodeURIComponent(id)}`);
  return { value: { revoked: id }, text: `the token ${id} opens nothing any more` };
}

function lifetimeFrom(text: unknown): Millis {
  if (text === undefined) return TOKEN_LIFETIME_MS_DEFAULT;
  const lifetime = parseDuration(String(text));
  if (lifetime === undefined || lifetime > TOKEN_LIFETIME_MS_MAX)
    throw new Failure("usage", `expected a lifetime such as 12h or 30d, at most 365d, got "${text}"`);
  return lifetime;
}

const stateCell = ({ state, expiresAtMs }: TokenInfo, now: Millis): string =>
  state === "valid" && expiresAtMs !== undefined ? `valid for ${formatDuration(expiresAtMs - now)}` : state;

import * as z from "zod";
import { Failure } from "../kit/failure.js";
import { formatDuration, type Millis, parseDuration } from "../kit/time.js";
import {
  KEY_LIFETIME_MS_DEFAULT,
  KEY_LIFETIME_MS_MAX,
  type KeyInfo,
  type KeyRequest,
  keyInfo,
  keyRequest,
} from "../wire/adminapi.js";
import { parseWith } from "../wire/schema.js";
import { callCoordinator, listAll } from "./admin.js";
import type { Call, Outcome } from "./command.js";
import { describeKeyLock, makeJoinKey } from "./joinkey.js";
import { renderTable } from "./table.js";

export async function createKey(call: Call): Promise<Outcome> {
  const { role, name, user, reusable, tag, ephemeral, preapproved } = call.options;
  const wanted: KeyRequest = parseWith(
    keyRequest,
    {
      role: role ?? "device",
      lifetimeMs: lifetimeFrom(call.options.expires ?? call.options.lifetime),
      ...(name === undefined ? {} : { name }),
      ...(user === undefined ? {} : { user }),
      reusable: reusable === true,
      tags: tag ?? [],
      ephemeral: ephemeral === true,
      ...(preapproved === undefined ? {} : { preapproved }),
    },
    "what was asked for",
    "usage",
  );
  const created = await makeJoinKey(call, wanted);
  const remaining = formatDuration(created.expiresAtMs - created.createdAtMs);
  const device = created.user === undefined ? "a device" : `a device of ${created.user}`;
  const guest = created.role === "exit-node" ? "an exit node" : device;
  const times = created.reusable ? "any number of times" : "once";
  const wait = created.preapproved ? "" : "\neach then waits for: exitnode device approve <device>";
  const text = [
    created.joinKey,
    `\nlets ${guest} in, ${times}, within ${remaining}; on that machine, as root:\n  exitnode up --join ${created.joinKey}${wait}`,
    ...(created.lock === undefined ? [] : ["", ...describeKeyLock(created.lock)]),
  ];
  return { value: created, text: text.join("\n") };
}

export async function listKeys(call: Call): Promise<Outcome> {
  const keys = await listAll(call, "/keys", "keys", keyInfo);
  const now = call.parts.clock.wall();
  const rows = keys.map((key) => [key.id, key.role, key.name ?? "", traitsOf(key).join(", "), until(key, now)]);
  const text = keys.length === 0 ? "no join keys" : renderTable([["ID", "ROLE", "NAME", "USE", "STATE"], ...rows]);
  return { value: { keys }, text };
}

export async function revokeKey(call: Call): Promise<Outcome> {
  const id = call.args[0] ?? "";
  await callCoordinator(call, z.unknown(), "DELETE", `/keys/${encodeURIComponent(id)}`);
  return { value: { revoked: id }, text: `the join key ${id} lets nobody in any more` };
}

function lifetimeFrom(text: unknown): Millis {
  if (text === undefined) return KEY_LIFETIME_MS_DEFAULT;
  const lifetime = parseDuration(String(text));
  if (lifetime === undefined || lifetime > KEY_LIFETIME_MS_MAX)
    throw new Failure("usage", `expected a lifetime such as 15m, 24h or 7d, at most 90d, got "${text}"`);
  return lifetime;
}

/** What a key does beyond letting a machine in. */
function traitsOf(key: KeyInfo): string[] {
  return [
    key.reusable ? "reusable" : "once",
    ...(key.user === undefined ? [] : [`for ${key.user}`]),
    ...key.tags.map((tag) => `tag:${tag}`),
    ...(key.ephemeral ? ["ephemeral"] : []),
    ...(key.preapproved ? [] : ["needs approval"]),
  ];
}

function until(key: KeyInfo, now: Millis): string {
  return key.state === "valid" ? `valid for ${formatDuration(key.expiresAtMs - now)}` : key.state;
}

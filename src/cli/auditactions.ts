import { Failure } from "../kit/failure.js";
import { tryJson } from "../kit/json.js";
import { type Millis, parseDuration } from "../kit/time.js";
import { AUDIT_ROOT, type AuditEntry, type AuditPage, type AuditPlace, auditPage, followChain } from "../wire/audit.js";
import { callCoordinator } from "./admin.js";
import type { Call, Outcome } from "./command.js";
import { fold, renderTable, SCREEN_COLUMNS } from "./table.js";

const SHOWN = "50";
const PAGE = 1_000;

export async function showAudit(call: Call): Promise<Outcome> {
  const { since, until, actor, action, target, limit = SHOWN } = call.options;
  const now = call.parts.clock.wall();
  const query = new URLSearchParams({ limit: countFrom(limit) });
  if (since !== undefined) query.set("since", String(momentFrom(since, now)));
  if (until !== undefined) query.set("until", String(momentFrom(until, now)));
  for (const [name, value] of Object.entries({ actor, action, target }))
    if (value !== undefined) query.set(name, String(value));
  const page = await callCoordinator(call, auditPage, "GET", `/audit?${query}`);
  const more = page.next === undefined ? "" : "\n\nolder ones: --limit, --until";
  const text = page.entries.length === 0 ? "no such entries" : `${describeEntries(page.entries)}${more}`;
  return { value: page, text };
}

const DETAILS_INDENT = "    ";

/** A line each, and below it as many as its details need. */
export function describeEntries(entries: readonly AuditEntry[]): string {
  const rows = entries.map(({ atMs, actor, action, target }) => [when(atMs), actor, action, target]);
  const [header, ...lines] = renderTable([["WHEN", "WHO", "ACTION", "WHAT"], ...rows]).split("\n");
  const below = entries.map((entry) => {
    const words = [entry.remote === "" ? "" : `from ${entry.remote}`, detailsOf(entry)].filter((text) => text !== "");
    const lines = fold(words.join(" "), SCREEN_COLUMNS - DETAILS_INDENT.length);
    return words.length === 0 ? [] : lines.map((line) => `${DETAILS_INDENT}${line}`);
  });
  return [header, ...lines.flatMap((line, at) => [line, ...(below[at] ?? [])])].join("\n");
}

/** The chain is computed here: a coordinator that was tampered with cannot vouch for itself. */
export async function verifyAudit(call: Call): Promise<Outcome> {
  const noted = notedFrom(call.options.noted);
  let end: AuditPlace | undefined;
  let root: AuditPlace = { seq: 0, hash: AUDIT_ROOT };
  let cut: AuditPlace | undefined;
  let seen = noted === undefined;
  for (let cursor = ""; ; ) {
    const page: AuditPage = await callCoordinator(
      call,
      auditPage,
      "GET",
      `/audit?order=oldest&limit=${PAGE}${cursor === "" ? "" : `&cursor=${cursor}`}`,
    );
    if (end === undefined) root = end = page.root;
    const followed = followChain(end, page.entries);
    if ("broken" in followed)
      throw new Failure("audit-broken", `entry ${followed.broken} of the audit log is not what was written there`, {
        advice: "compare with a backup: exitnode coordinator backup --help",
      });
    ({ end } = followed);
    for (const entry of [{ ...root }, ...page.entries]) seen ||= entry.seq === noted?.seq && entry.hash === noted.hash;
    cut =
      page.entries
        .filter(({ action }) => action === "audit.cut")
        .map(cutOf)
        .at(-1) ?? cut;
    if (page.next === undefined) break;
    cursor = page.next;
  }
  // What was let go is told by an entry: without it, somebody else has cut the log.
  if (root.seq > 0 && (cut?.seq !== root.seq || cut.hash !== root.hash))
    throw new Failure(
      "audit-broken",
      `the audit log begins after entry ${root.seq}, and no entry says that it was cut there`,
    );
  if (!seen && noted !== undefined)
    throw new Failure(
      "audit-broken",
      noted.seq < root.seq
        ? `entry ${noted.seq} is older than the oldest that is kept (${root.seq + 1}): it cannot be compared any more`
        : `entry ${noted.seq} of the audit log is not the one that was noted, or is gone`,
    );
  const value = { entries: end.seq - root.seq, root, last: end };
  const text = `${value.entries} entries, each bound to the one before\nnote for next time: --noted ${end.seq}:${end.hash}`;
  return { value, text };
}

function cutOf({ details }: AuditEntry): AuditPlace | undefined {
  const told = auditPage.shape.root.safeParse(tryJson(details));
  return told.success ? told.data : undefined;
}

function notedFrom(text: unknown): AuditPlace | undefined {
  if (text === undefined) return undefined;
  const [, seq, hash] = /^(\d{1,15}):([0-9a-f]{64})$/.exec(String(text)) ?? [];
  if (seq === undefined || hash === undefined)
    throw new Failure("usage", `expected what an earlier check showed, NUMBER:HASH, got "${text}"`);
  return { seq: Number(seq), hash };
}

function countFrom(text: unknown): string {
  const count = Number(text);
  if (!Number.isInteger(count) || count < 1 || count > PAGE)
    throw new Failure("usage", `expected a number from 1 to ${PAGE}, got "${text}"`);
  return String(count);
}

function momentFrom(text: unknown, now: Millis): Millis {
  const age = parseDuration(String(text));
  if (age !== undefined) return now - age;
  const moment = /^\d{4}-\d{2}-\d{2}/.test(String(text)) ? Date.parse(String(text)) : Number.NaN;
  if (Number.isNaN(moment))
    throw new Failure("usage", `expected how long ago, such as 24h or 7d, or a date such as 2026-03-01, got "${text}"`);
  return moment;
}

const when = (atMs: Millis): string => new Date(atMs).toISOString().slice(0, 19).replace("T", " ");

/** {"name":"laptop","role":"device"} as name=laptop role=device. */
function detailsOf({ details }: AuditEntry): string {
  const value = tryJson(details);
  if (typeof value !== "object" || value === null) return "";
  // What is not so, and what there is none of, would hide what is.
  return Object.entries(value)
    .filter(([, one]) => one !== false && !(Array.isArray(one) && one.length === 0))
    .map(([name, one]) => `${name}=${typeof one === "string" ? one : JSON.stringify(one)}`)
    .join(" ");
}

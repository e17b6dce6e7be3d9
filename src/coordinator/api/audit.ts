import * as z from "zod";
import { Failure } from "../../kit/failure.js";
import { auditPage } from "../../wire/audit.js";
import type { AuditRow } from "../store/schema.js";
import { PAGE_MAX } from "./page.js";
import type { ApiParts } from "./parts.js";
import { type Route, route } from "./route.js";

const moment = z.coerce.number().int().nonnegative();
const word = z.string().min(1).max(128);

/** Newest first; with `order=oldest` the other way, from the oldest entry that is kept: for checking the chain. */
const auditQuery = z.strictObject({
  limit: z.coerce.number().int().min(1).max(PAGE_MAX).default(100),
  cursor: z.string().min(1).max(256).optional(),
  order: z.enum(["newest", "oldest"]).default("newest"),
  /** Milliseconds since 1970. */
  since: moment.optional(),
  until: moment.optional(),
  actor: word.optional(),
  /** One action, or all of a noun: "device.*". */
  action: word.optional(),
  target: word.optional(),
});

export function auditRoutes({ store }: ApiParts): Route[] {
  return [
    route({
      method: "GET",
      path: "/audit",
      summary: "Who changed what, when and from where",
      scope: "audit:read",
      query: auditQuery,
      answer: auditPage,
      async run({ query: { cursor, order, limit, ...filters } }) {
        const { audit } = store.view;
        const place = cursor === undefined ? undefined : placeFrom(cursor);
        const from = order === "newest" ? { before: place } : { after: place ?? 0 };
        const rows = await audit.list({ ...filters, ...from, limit: limit + 1 });
        const entries = rows.slice(0, limit).map(describeEntry);
        const next = rows.length > limit ? entries.at(-1)?.seq : undefined;
        const [root, last] = [await audit.root(), await audit.last()];
        return { entries, root, last, ...(next === undefined ? {} : { next: String(next) }) };
      },
    }),
  ];
}

const describeEntry = ({ at_ms, ...row }: AuditRow) => ({ ...row, atMs: at_ms });

function placeFrom(cursor: string): number {
  if (/^\d{1,15}$/.test(cursor)) return Number(cursor);
  throw new Failure("message-invalid", "the cursor is not one that an answer gave");
}

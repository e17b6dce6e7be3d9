import * as z from "zod";
import { Failure } from "../../kit/failure.js";

/** Entries in one answer, unless fewer are asked for. */
export const PAGE_MAX = 1_000;

/** The query of every list that may be long: what came before `cursor` is left out. */
export const pageQuery = z.strictObject({
  limit: z.coerce.number().int().min(1).max(PAGE_MAX).default(PAGE_MAX),
  /** The `next` of the answer before. */
  cursor: z.string().min(1).max(256).optional(),
});
export type PageQuery = z.output<typeof pageQuery>;

/** In an answer: the cursor of the page that follows; absent on the last one. */
export const nextCursor = { next: z.string().optional() };

/** A list's place for an entry: entries that come and go between two pages neither repeat others nor hide them. */
export type Place = { readonly createdAtMs: number; readonly id: string };

/** One page of a list that is in memory, oldest first. */
export function pageOf<T extends Place>(
  all: Iterable<T>,
  { limit, cursor }: PageQuery,
): { readonly page: T[]; readonly next?: string } {
  const after = cursor === undefined ? undefined : placeFrom(cursor);
  const rest = [...all].sort(byPlace).filter((one) => after === undefined || byPlace(one, after) > 0);
  const page = rest.slice(0, limit);
  const last = page.at(-1);
  return rest.length > page.length && last !== undefined ? { page, next: `${last.createdAtMs}.${last.id}` } : { page };
}

const byPlace = (left: Place, right: Place): number =>
  left.createdAtMs - right.createdAtMs || (left.id < right.id ? -1 : left.id > right.id ? 1 : 0);

function placeFrom(cursor: string): Place {
  const [, createdAtMs, id] = /^(\d{1,15})\.(.+)$/.exec(cursor) ?? [];
  if (createdAtMs === undefined || id === undefined)
    throw new Failure("message-invalid", "the cursor is not one that an answer gave");
  return { createdAtMs: Number(createdAtMs), id };
}

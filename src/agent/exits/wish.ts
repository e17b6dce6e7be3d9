import * as z from "zod";
import { EXITS_MAX, NEAREST } from "../../wire/agentsocket.js";
import type { NetworkMap } from "../../wire/map.js";
import { type DnsChoice, dnsChoice } from "../../wire/names.js";
import { deviceName } from "../../wire/schema.js";
import { type Choice, exitOf, unknownExit } from "../desired.js";

/** What the user asked for: exits in the order they are wanted in, or whichever is nearest; none is an empty list. */
export type Wish = {
  readonly exits: readonly string[] | typeof NEAREST;
  /** How look-ups go; undefined: by the exit's own resolver. */
  readonly dns?: DnsChoice | undefined;
};

export const NO_WISH: Wish = { exits: [] };

/** `exit` alone was written by agents that knew one; they read it again when an upgrade is taken back. */
const wishFile = z.object({
  exit: z.string().optional(),
  exits: z.union([z.array(deviceName).max(EXITS_MAX), z.literal(NEAREST)]).optional(),
  dns: dnsChoice.optional(),
});

export function readWish(value: unknown): Wish {
  const { exit, exits, dns } = wishFile.safeParse(value).data ?? {};
  return { exits: exits ?? (exit === undefined ? [] : [exit]), ...(dns === undefined ? {} : { dns }) };
}

export const wishText = ({ exits, dns }: Wish, { exit }: Choice): string => JSON.stringify({ exit, exits, dns });

/** As the local socket asks for it. */
export function wishIn(exit: string | null, others: readonly string[] = [], dns?: DnsChoice): Wish {
  const exits = exit === NEAREST ? NEAREST : exit === null ? [] : [...new Set([exit, ...others])];
  return { exits, ...(dns === undefined ? {} : { dns }) };
}

/** Refuses what names an exit node that there is not. */
export function checkWish({ exits }: Wish, map: NetworkMap | undefined): void {
  const unknown = (name: string): boolean => map === undefined || exitOf(map, { exit: name }) === undefined;
  const stranger = exits === NEAREST ? undefined : exits.find(unknown);
  if (stranger !== undefined) throw unknownExit(stranger, map);
  if (exits === NEAREST && (map?.peers ?? []).every(({ name }) => unknown(name))) throw unknownExit(NEAREST, map);
}

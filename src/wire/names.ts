import * as z from "zod";
import { ip, NAME_PATTERN } from "./schema.js";

/** Names in the network: what the map tells of them, and how a device's look-ups go while it uses an exit. */

/** Under .internal, which ICANN has set aside for private use: nobody's public names are covered. */
export const NAMES_DOMAIN_DEFAULT = "exitnode.internal";

export const RECORDS_MAX = 1_024;
export const RECORD_ADDRESSES_MAX = 16;
export const SPLIT_MAX = 64;
const RESOLVERS_MAX = 4;
/** With a label of a device before it, a name keeps within the 253 characters of RFC 1035 §2.3.4. */
const DOMAIN_CHARACTERS_MAX = 189;

const labels = (text: string): string[] => text.split(".");
const isName = (text: string): boolean =>
  text.length <= DOMAIN_CHARACTERS_MAX && labels(text).every((label) => NAME_PATTERN.test(label));

/** A domain in lower case, without the dot of the root. */
export const domainName = z
  .string()
  .refine(isName, "must be labels of a-z, 0-9 and - with dots between, as in home.example");
/** A network's own domain. A single label would take a whole top-level domain from the Internet's names. */
const networkDomain = domainName.refine((text) => labels(text).length > 1, "must have two labels or more");

/** A name that is no device's. Without a dot, it is in the network's domain. */
const extraRecord = z.object({
  name: domainName,
  addresses: z.array(ip).min(1).max(RECORD_ADDRESSES_MAX),
});

/** Look-ups below a domain go to resolvers of its own. */
const splitDomain = z.object({ domain: domainName, resolvers: z.array(ip).min(1).max(RESOLVERS_MAX) });

export const mapNames = z.object({
  domain: networkDomain,
  records: z.array(extraRecord).max(RECORDS_MAX),
  split: z.array(splitDomain).max(SPLIT_MAX),
  /** Asked by every device instead of the resolvers of the network it is in; none: those are asked. */
  resolvers: z.array(ip).max(RESOLVERS_MAX),
});
export type MapNames = z.infer<typeof mapNames>;

/**
 * How look-ups go while an exit is used: to its own resolver; to this device's through the exit; or to this device's
 * directly, which shows the network it is in what is looked up.
 */
export const DNS_CHOICES = ["exit", "mine-via-exit", "mine"] as const;
export const dnsChoice = z.enum(DNS_CHOICES);
export type DnsChoice = z.infer<typeof dnsChoice>;

/** Look-ups below it are answered by the agent, whatever else is set, and noted for whoever tests for leaks. */
export const CANARY_DOMAIN = "canary.exitnode.internal";
/** RFC 5737: nobody's. */
export const CANARY_ANSWER = "192.0.2.53";

/**
 * Administration, below /api/v1:
 *
 *   GET    /names                → mapNames
 *   PATCH  /names                namesRequest → mapNames
 *   PUT    /names/records/:name  recordRequest → mapNames
 *   PUT    /names/split/:domain  splitRequest → mapNames
 *   DELETE /names/records/:name, /names/split/:domain
 */
export const namesRequest = z.strictObject({
  domain: networkDomain.optional(),
  resolvers: z.array(ip).max(RESOLVERS_MAX).optional(),
});
export type NamesRequest = z.input<typeof namesRequest>;
export const recordRequest = z.strictObject({ addresses: extraRecord.shape.addresses });
export const splitRequest = z.strictObject({ resolvers: splitDomain.shape.resolvers });

import * as z from "zod";

/** The shape of a policy file. Lists are bounded: every device's filter is made of them. */

export const GRANTS_MAX = 512;
export const SELECTORS_MAX = 256;
export const PORTS_MAX = 64;
export const TESTS_MAX = 512;
export const NAMES_MAX = 1_024;

const word = z.string().min(1).max(256);
const selectors = z.array(word).max(SELECTORS_MAX);
const named = <T extends z.ZodType>(value: T) =>
  z.record(word, value).refine((all) => Object.keys(all).length <= NAMES_MAX, `has more than ${NAMES_MAX} entries`);

export const policyDocument = z.strictObject({
  /** Logins by group:NAME. */
  groups: named(selectors).default({}),
  /** By tag:NAME, who may give a device that tag; administrators may give every one that is here. */
  tagOwners: named(selectors).default({}),
  /** Names for addresses and prefixes. */
  hosts: named(word).default({}),
  grants: z
    .array(
      z.strictObject({
        src: selectors.min(1),
        dst: selectors.min(1),
        /** Left out: everything. */
        ip: z
          .array(z.union([word, z.number().int().transform(String)]))
          .min(1)
          .max(PORTS_MAX)
          .default(["*"]),
        /** Exit nodes and routers that this goes through; left out: any. */
        via: selectors.min(1).optional(),
      }),
    )
    .max(GRANTS_MAX)
    .default([]),
  autoApprovers: z
    .strictObject({
      /** By prefix, whose devices may route it and what is in it without being asked. */
      routes: named(selectors).default({}),
      /** Whose devices may be exit nodes without being asked. */
      exitNode: selectors.default([]),
    })
    .default({ routes: {}, exitNode: [] }),
  tests: z
    .array(
      z.strictObject({
        src: word,
        proto: z.enum(["tcp", "udp", "icmp"]).default("tcp"),
        /** Destination and port, as in "tag:server:22"; without a port where there is none. */
        accept: selectors.default([]),
        deny: selectors.default([]),
        /** Exit nodes and routers that what is tested goes through. */
        via: selectors.min(1).optional(),
      }),
    )
    .max(TESTS_MAX)
    .default([]),
});
export type PolicyDocument = z.infer<typeof policyDocument>;

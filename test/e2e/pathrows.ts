/**
 * What is to be expected between two networks: the one table that the test and `scripts/bench paths` measure against.
 * The left one is the café's, with the laptop; the right one the home's, with the exit node. The kinds are the lab's.
 */
export const KINDS = [
  "open",
  "endpoint-independent",
  "ordinary",
  "symmetric",
  "double",
  "udp-blocked",
  "ipv6-only",
  "ipv4-only",
] as const;
export type Kind = (typeof KINDS)[number];
export type Row = { readonly left: Kind; readonly right: Kind };
export type Expected = {
  readonly path: "direct" | "relayed";
  /** From `use` to a direct path, or to the word that there is none. */
  readonly withinMs: number;
};

/** A direct path that needs no guessing. */
const DIRECT_MS = 10_000;
/** A port behind a symmetric NAT is guessed: by the birthday paradox, within seconds at 100 packets a second. */
const GUESSED_MS = 20_000;
/** A search that ends without a path. */
const RELAYED_MS = 30_000;

export function expected({ left, right }: Row): Expected {
  const pair = [left, right];
  const has = (kind: Kind): boolean => pair.includes(kind);
  const relayed =
    has("udp-blocked") || (has("ipv6-only") && has("ipv4-only")) || pair.every((kind) => kind === "symmetric");
  if (relayed) return { path: "relayed", withinMs: RELAYED_MS };
  // A port has to be guessed unless the other side lets in whoever comes, or both go by IPv6, which has no NAT.
  const guessed = has("symmetric") && !has("open") && !has("endpoint-independent") && !has("ipv6-only");
  return { path: "direct", withinMs: guessed ? GUESSED_MS : DIRECT_MS };
}

/**
 * Whether the café's IPv6 carries UDP in this row. Where it did, every NAT would be passed by, and its row would
 * measure nothing.
 */
export const goesByIpv6 = ({ left, right }: Row): boolean => left === "ipv6-only" || right === "ipv6-only";

export const rowName = ({ left, right }: Row): string => `${left}–${right}`;

/** "all", or "ordinary-symmetric,open-open"; undefined when one of them is none. */
export function parseRows(text: string): readonly Row[] | undefined {
  if (text === "all") return KINDS.flatMap((left) => KINDS.map((right) => ({ left, right })));
  const rows = text
    .split(",")
    .map((name) =>
      KINDS.flatMap((left) => KINDS.flatMap((right) => (`${left}-${right}` === name ? [{ left, right }] : []))).at(0),
    );
  return rows.every((row) => row !== undefined) ? rows : undefined;
}

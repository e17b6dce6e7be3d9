import type { Cidr } from "../../kit/ip.js";
import type { Ports, Selector } from "./selector.js";

/** Who may reach what: a policy file, understood. */
export type Policy = {
  readonly groups: ReadonlyMap<string, readonly string[]>;
  readonly tagOwners: ReadonlyMap<string, readonly Selector[]>;
  readonly grants: readonly Grant[];
  readonly autoApprovers: {
    readonly routes: readonly { readonly prefix: Cidr; readonly by: readonly Selector[] }[];
    readonly exitNode: readonly Selector[];
  };
  readonly tests: readonly PolicyTest[];
};

export type Grant = {
  readonly src: readonly Selector[];
  readonly dst: readonly Selector[];
  readonly ports: readonly Ports[];
  readonly via: readonly Selector[] | undefined;
};

export type PolicyTest = {
  readonly line: number;
  readonly src: Selector;
  readonly protocol: "tcp" | "udp" | "icmp";
  readonly accept: readonly Target[];
  readonly deny: readonly Target[];
  readonly via: readonly Selector[] | undefined;
};

/** What a test asks for; `text` is how the file says it. */
export type Target = { readonly text: string; readonly dst: Selector; readonly port: number };

/** The devices that a policy goes by: by their name they get rights, are reached, or are trusted with routes. */
export function deviceNames({ grants, autoApprovers }: Policy): ReadonlySet<string> {
  const selectors = [
    ...grants.flatMap(({ src, dst, via = [] }) => [src, dst, via]),
    ...autoApprovers.routes.map(({ by }) => by),
    autoApprovers.exitNode,
  ].flat();
  return new Set(selectors.flatMap((one) => (one.kind === "device" ? [one.name] : [])));
}

const EVERYTHING: readonly Ports[] = [{ protocol: "any" }];
const autogroup = (name: "member" | "self" | "tagged"): Selector => ({ kind: "autogroup", name });
const network = (text: string): Selector => ({ kind: "network", network: text as Cidr });

/**
 * Without a file: a person's devices reach each other, and everyone may use the exit nodes. What an exit node lets out
 * is its own firewall's business, which keeps the LAN behind it closed unless it was made with --allow-lan.
 */
export const DEFAULT_POLICY: Policy = {
  groups: new Map(),
  tagOwners: new Map(),
  grants: [
    { src: [autogroup("member")], dst: [autogroup("self")], ports: EVERYTHING, via: undefined },
    {
      src: [autogroup("member"), autogroup("tagged")],
      dst: [network("0.0.0.0/0"), network("::/0")],
      ports: EVERYTHING,
      via: undefined,
    },
  ],
  autoApprovers: { routes: [], exitNode: [] },
  tests: [],
};

/** The same as a file, to begin with. */
export const DEFAULT_POLICY_TEXT = `# A person's devices reach each other, and everyone may use the exit nodes.
grants:
  - src: [autogroup:member]
    dst: [autogroup:self]
  - src: [autogroup:member, autogroup:tagged]
    # Whatever the exit node's own firewall lets out; autogroup:internet is public addresses alone.
    dst: [0.0.0.0/0, "::/0"]
`;

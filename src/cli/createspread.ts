import { Failure } from "../kit/failure.js";

/**
 * Which PVE node of each host gets its exit node, so that no two of them are on one machine: a second exit node is
 * there for when the first one's machine is not.
 */
export type Candidate = {
  readonly host: string;
  /** The PVE node the config names for the host. */
  readonly wanted: string | undefined;
  /** The certificate pinned for it, by which the node that answers is known. */
  readonly fingerprint: string;
  readonly nodes: readonly {
    readonly name: string;
    readonly online: boolean;
    readonly fingerprint?: string | undefined;
  }[];
  /** Where its exit node is already. */
  readonly there: string | undefined;
};
type PveNode = Candidate["nodes"][number];

/** A PVE node's name, or why there is none for the host. */
export function spread(candidates: readonly Candidate[]): Map<string, string | Failure> {
  const taken = new Map<string, string>();
  const chosen = new Map<string, string | Failure>();
  // What is there stays there, so it comes first.
  const settled = candidates.filter(({ there }) => there !== undefined);
  const free = candidates.filter(({ there }) => there === undefined);
  for (const candidate of [...settled, ...free]) {
    const node = choose(candidate, taken);
    if (!(node instanceof Failure)) taken.set(keyOf(candidate, node), candidate.host);
    chosen.set(candidate.host, node instanceof Failure ? node : node.name);
  }
  return chosen;
}

function choose(candidate: Candidate, taken: ReadonlyMap<string, string>): PveNode | Failure {
  const { host, wanted, there, nodes, fingerprint } = candidate;
  const named = there ?? wanted;
  const holder = (node: PveNode): string | undefined => taken.get(keyOf(candidate, node));
  if (named !== undefined) {
    // An unknown name is refused where it is used, with the names there are.
    const node = nodes.find(({ name }) => name === named) ?? { name: named, online: false };
    const other = holder(node);
    return other === undefined ? node : sameMachine(host, other, node.name);
  }
  const online = nodes.filter((node) => node.online);
  const answering = online.filter((node) => node.fingerprint === fingerprint);
  const found = [...answering, ...online].find((node) => holder(node) === undefined);
  if (found !== undefined) return found;
  const last = online.find((node) => holder(node) !== undefined);
  return sameMachine(host, (last && holder(last)) ?? "another", last?.name ?? "none that is online");
}

/** Nodes of one cluster are the same through whichever of its hosts they are seen. */
const keyOf = ({ host }: Candidate, { name, fingerprint }: PveNode): string => fingerprint ?? `${host}/${name}`;

const sameMachine = (host: string, other: string, node: string): Failure =>
  new Failure("hosts-same-machine", `"${host}" and "${other}" would have their exit nodes on one machine, ${node}`, {
    advice: "give hosts that are different machines, or make them one by one, each with its --name",
  });

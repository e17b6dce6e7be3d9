import { formatEndpoint } from "../kit/endpoint.js";
import type { NatKind } from "../wire/probe.js";
import type { StunReport } from "./stunreport.js";

/**
 * Words for what a NAT does, as RFC 4787 §4.1 has them, and what each means for a direct path. `NatKind` (wire/probe)
 * is the short form that peers tell each other: `easy` keeps one port for every destination, `hard` does not.
 */

export function natKindOf(report: StunReport): NatKind {
  if (report.blocked) return "blocked";
  switch (report.mapping) {
    case "none":
      return "open";
    case "endpoint-independent":
      return "easy";
    case "address-dependent":
    case "address-and-port-dependent":
      return "hard";
    case "unknown":
      return "unknown";
  }
}

/** One line for netcheck, and one on what it means. */
export function describeNat(report: StunReport): { readonly is: string; readonly means: string } {
  if (report.blocked)
    return { is: "UDP is blocked", means: "all traffic goes through the relay; another network may do better" };
  switch (report.mapping) {
    case "none":
      return {
        is: "no NAT: the address is public",
        means: "others reach this device directly unless a firewall drops it",
      };
    case "endpoint-independent": {
      // RFC 5780 §4.3: two ports of one address show that the port does not matter, and nothing about the address.
      const sure = report.compared.addresses > 1;
      return {
        is: `endpoint-independent mapping${sure ? "" : ", as far as one server can tell"}${report.portKept ? ", the port is kept" : ""}`,
        means: sure ? EASY : `${EASY}, unless the port changes with the address: a relay elsewhere would show that`,
      };
    }
    case "address-dependent":
      return { is: "address-dependent mapping", means: HARD };
    case "address-and-port-dependent": {
      const steps = report.predicted.length > 0 ? `, ports in steps of ${report.step}` : ", ports without a pattern";
      // A pattern takes three to be seen, or to be missed.
      return {
        is: `address-and-port-dependent mapping${report.compared.answers < 3 ? "" : steps}`,
        means: HARD,
      };
    }
    case "unknown":
      return describeUnknown(report);
  }
}

function describeUnknown({ inside, samples }: StunReport): { readonly is: string; readonly means: string } {
  if (inside)
    return {
      is: "not known: only a relay in this network answered, which does not see what the router does",
      means: "a relay elsewhere would show it",
    };
  const silent = samples.find(
    ({ server, mapped }) =>
      mapped === undefined && samples.some((other) => other.mapped && other.server.address === server.address),
  );
  return {
    is: "not known: a single STUN port answered, and a NAT's kind shows in the difference",
    means:
      silent === undefined
        ? "with a second port or relay that answers STUN it could be told"
        : `no answer from ${formatEndpoint(silent.server)}: a firewall before the relay may have to let in udp/${silent.server.port}`,
  };
}

const EASY = "direct paths work with nearly every other network";

const HARD =
  "the port changes per destination: direct paths work towards easier networks, not towards another of this kind";

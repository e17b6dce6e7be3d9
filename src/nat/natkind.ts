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
    case "endpoint-independent":
      return {
        is: `endpoint-independent mapping${report.portKept ? ", the port is kept" : ""}`,
        means: "direct paths work with nearly every other network",
      };
    case "address-dependent":
      return { is: "address-dependent mapping", means: HARD };
    case "address-and-port-dependent": {
      const guess = report.predicted.length > 0 ? `, ports in steps of ${report.step}` : ", ports without a pattern";
      return { is: `address-and-port-dependent mapping${guess}`, means: HARD };
    }
    case "unknown":
      return {
        is: "a NAT of unknown kind: a single server answered",
        means: "with a second STUN server its kind could be told",
      };
  }
}

const HARD =
  "the port changes per destination: direct paths work towards easier networks, not towards another of this kind";

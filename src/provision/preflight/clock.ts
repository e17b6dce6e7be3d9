import type { Millis } from "../../kit/time.js";
import { type Finding, fine, onHost, warns } from "./finding.js";

/** A container has the host's clock. Join keys live minutes; a minute apart is still no trouble. */
export const SKEW_MAX_MS: Millis = 60_000;

export function clockFinding(skewMs: Millis | undefined): Finding[] {
  if (skewMs === undefined) return [];
  const seconds = Math.round(Math.abs(skewMs) / 1_000);
  if (Math.abs(skewMs) <= SKEW_MAX_MS) return [fine("clock", `within ${Math.max(seconds, 1)} s of this machine's`)];
  return [
    warns("clock", `the host's clock is ${seconds} s ${skewMs > 0 ? "ahead of" : "behind"} this machine's`, {
      why: "logins, join keys and certificates are good for a time, and a container has the host's clock",
      advice: `here: timedatectl\n${onHost("chronyc makestep")}`,
    }),
  ];
}

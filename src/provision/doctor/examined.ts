import type { Millis } from "../../kit/time.js";
import type { Inside } from "../inside.js";
import { onHost } from "../preflight/finding.js";
import type { OwnContainer } from "../view.js";
import type { Symptoms } from "./symptoms.js";

/** One exit node's container, seen from inside, and what is needed to name its cure. */
export type Examined = {
  readonly container: OwnContainer;
  readonly hostName: string;
  readonly symptoms: Symptoms;
  /** Undefined where only `pct exec` gets in. */
  readonly inside: Inside | undefined;
  /** Of the PVE node, where the login may read it. */
  readonly kernel: string | undefined;
  /** This machine's clock when the container told its own. */
  readonly wallMs: Millis;
};

/** Commands in the container, typed where root is. */
export const inContainer = ({ container }: Pick<Examined, "container">, ...lines: readonly string[]): string =>
  onHost(...lines.map((line) => `pct exec ${container.vmid} -- ${line}`));

/** The command that puts right what is not as wanted. */
export const createAgain = ({ container, hostName }: Pick<Examined, "container" | "hostName">): string =>
  `exitnode create --host ${hostName} --name ${container.identity.name}`;

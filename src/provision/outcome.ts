import { Failure } from "../kit/failure.js";
import { addressOf, coordinatorOf, dataPlaneOf, formerAddressOf, publicAddressOf, type View } from "./view.js";

/** What `create`, `plan` and `list` say of an exit node. */
export type ExitNodeFacts = {
  readonly name: string;
  readonly vmid?: number;
  readonly pveNode?: string;
  readonly running?: boolean;
  readonly unprivileged?: boolean;
  readonly cores: number;
  readonly memoryMiB: number;
  readonly dataPlane?: "kernel" | "userspace";
  readonly address?: string;
  readonly publicAddress?: string;
  readonly tunnelAddresses?: readonly string[];
  readonly agentVersion?: string;
  /** The network has a device lock, and no trusted device has signed this one's lock key, of which this is a part. */
  readonly unsigned?: string;
  readonly egress?: { readonly ipv4?: string; readonly ipv6?: string };
};

export function exitNodeFacts(view: View): ExitNodeFacts {
  const { container, inside, spec } = view;
  const plane = inside === undefined ? undefined : dataPlaneOf(view, inside).kind;
  const address = addressOf(view);
  const publicAddress = publicAddressOf(view);
  const { ipv4, ipv6 } = inside?.egress ?? {};
  return {
    name: spec.name,
    ...(container === undefined
      ? {}
      : {
          vmid: container.vmid,
          pveNode: container.node,
          running: container.running,
          unprivileged: container.config.unprivileged,
        }),
    cores: container?.config.cores ?? spec.cores,
    memoryMiB: container?.config.memoryMib ?? spec.memoryMib,
    ...(plane === "kernel" || plane === "userspace" ? { dataPlane: plane } : {}),
    ...(address === undefined ? {} : { address }),
    ...(publicAddress === undefined ? {} : { publicAddress }),
    ...(inside?.agent === undefined
      ? {}
      : { tunnelAddresses: inside.agent.addresses, agentVersion: inside.agent.version }),
    ...(inside?.agent?.waiting !== "lock" || inside.agent.lock === undefined
      ? {}
      : { unsigned: inside.agent.lock.fingerprint }),
    ...(inside === undefined
      ? {}
      : { egress: { ...(ipv4 === undefined ? {} : { ipv4 }), ...(ipv6 === undefined ? {} : { ipv6 }) } }),
  };
}

/** What a router in front of the exit node should hand on, in words; nothing when nobody in front of it is known of. */
export function forwardAdvice(view: View): string | undefined {
  const { address, publicAddress } = exitNodeFacts(view);
  if (publicAddress === undefined || address === undefined) return undefined;
  const ports = view.ownCoordinator ? "udp/51820, udp/3478, udp/3479 and tcp/443" : "udp/51820";
  return `forward ${ports} of ${publicAddress} to ${address} on your router`;
}

/** Why devices are told of two addresses, and what ends that; nothing when one is enough. */
export function formerAdvice(view: View): string | undefined {
  const former = formerAddressOf(view);
  if (former === undefined) return undefined;
  const chosen = view.spec.publicAddress;
  return `${chosen} is not seen to lead to the coordinator from here, so devices are told ${former} as well; once it does: exitnode create --host ${view.hostName} --name ${view.spec.name}`;
}

export type CoordinatorOutcome = {
  readonly urls: readonly string[];
  readonly publicKey: string;
  readonly here: boolean;
};

export function coordinatorOutcome(view: View): CoordinatorOutcome | undefined {
  const known = coordinatorOf(view);
  if (known === undefined) return undefined;
  return { urls: view.record?.urls ?? known.urls, publicKey: known.publicKey, here: view.ownCoordinator };
}

/** Two join keys were refused: the reason is the coordinator's. */
export function joinFailure(view: View): Failure {
  const reason = view.inside?.agent?.coordinator.reason ?? "no reason given";
  return new Failure("join-refused", `the coordinator does not let "${view.spec.name}" in: ${reason}`, {
    advice: `exitnode logs ${view.spec.name}`,
  });
}

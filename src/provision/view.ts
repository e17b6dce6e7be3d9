import { familyOf, type Ip } from "../kit/ip.js";
import type { ContainerConfig } from "../pve/guests.js";
import type { Identity } from "./identity.js";
import type { Inside } from "./inside.js";
import type { CoordinatorRecord } from "./parts.js";
import type { WantedFile } from "./payload.js";
import { type FileInputs, ownUrls, publicFrom } from "./payload.js";
import type { Finding } from "./preflight/finding.js";
import type { ExitNodeSpec } from "./spec.js";

/** A container of ours as Proxmox tells of it. */
export type OwnContainer = {
  readonly vmid: number;
  readonly node: string;
  readonly running: boolean;
  readonly identity: Identity;
  readonly config: ContainerConfig;
};

/** Where a new container goes, and from what. */
export type Placement = {
  readonly node: string;
  readonly storage: string;
  readonly templateStorage: string;
  readonly bridge: string;
  readonly template:
    | { readonly kind: "on-host"; readonly volid: string }
    | { readonly kind: "upload"; readonly name: string }
    /** No template: a copy of a container that root prepared, which keeps the host key of its source. */
    | { readonly kind: "clone"; readonly vmid: number; readonly hostKey: string };
  /** What does not stop a create, and is worth knowing before it. */
  readonly warnings?: readonly Finding[];
};

/** "debian-13-exitnode_0.1.0_amd64.tar.xz", wherever it lies; undefined where there is none. */
export function templateName({ template }: Placement): string | undefined {
  if (template.kind === "clone") return undefined;
  return template.kind === "upload" ? template.name : template.volid.replace(/^.*\//, "");
}

/** All that is known when a plan is made; what is undefined has not been seen yet, or is not there yet. */
export type View = {
  /** The host by its name in the configuration, for advice. */
  readonly hostName: string;
  readonly spec: ExitNodeSpec;
  readonly container: OwnContainer | undefined;
  /** The state of before an upgrade, of which the description tells, is there to go back to. */
  readonly isSaved: boolean;
  /** Only while there is no container. */
  readonly placement: Placement | undefined;
  readonly hostKey: string | undefined;
  readonly addresses: readonly Ip[];
  /** It was started a moment ago: router advertisements are faster than DHCP, so IPv4 may still come. */
  readonly awaitsIpv4: boolean;
  readonly inside: Inside | undefined;
  readonly files: readonly WantedFile[] | undefined;
  /** Devices can be passed through: by the login, which is root@pam with a password then, or by root's shell. */
  readonly mayPassDevices: boolean;
  /** The coordinator runs in this container. */
  readonly ownCoordinator: boolean;
  readonly record: CoordinatorRecord | undefined;
  /** The public address was seen to lead to the coordinator in this container. */
  readonly leadsHere?: boolean;
  readonly adminTokenSha256: string | undefined;
};

/** The address by which this machine reaches the container. */
export const addressOf = (view: View): Ip | undefined => usableAddress(view.addresses);

export function usableAddress(addresses: readonly Ip[]): Ip | undefined {
  const usable = addresses.filter((ip) => !ip.startsWith("fe80:") && !ip.startsWith("169.254."));
  return usable.find((ip) => familyOf(ip) === 4) ?? usable[0];
}

/** What it is reached by is what it will be reached by: an address written into files must not change by itself. */
export function hasSettledAddress(view: View): boolean {
  const address = addressOf(view);
  return address !== undefined && (familyOf(address) === 4 || !view.awaitsIpv4);
}

export function publicAddressOf(view: View): string | undefined {
  return (
    view.spec.publicAddress ??
    publicFrom(view.inside?.egress.ipv4) ??
    view.container?.identity.publicAddress ??
    undefined
  );
}

/**
 * Where devices found the coordinator before somebody chose another address: told beside it until that one is seen to
 * lead here, because with a wrong one alone every device that is not at home would lose the coordinator.
 */
export function formerAddressOf(view: View): string | undefined {
  const identity = view.container?.identity;
  const chosen = view.spec.publicAddress;
  if (!view.ownCoordinator || identity === undefined || chosen === undefined || view.leadsHere === true)
    return undefined;
  // The oldest that is kept: the one between may be as wrong as the one that follows it.
  const former = identity.formerAddress ?? identity.publicAddress;
  return former === chosen ? undefined : former;
}

/** How the data plane can be had, from what was seen inside. */
export type DataPlane =
  | { readonly kind: "kernel" | "userspace" }
  | { readonly kind: "allow-tun" }
  | { readonly kind: "unavailable"; readonly wanted: string };

export function dataPlaneOf(view: View, inside: Inside): DataPlane {
  const wanted = view.spec.dataPlane;
  if (wanted !== "userspace" && inside.kernelWireguard) return { kind: "kernel" };
  if (wanted !== "kernel" && inside.tun) return { kind: "userspace" };
  if (wanted !== "kernel" && view.mayPassDevices && view.container?.config.options.dev0 === undefined)
    return { kind: "allow-tun" };
  return { kind: "unavailable", wanted };
}

/** The coordinator that the container's agent is to know; undefined until it is known. */
export function coordinatorOf(view: View): { urls: readonly string[]; publicKey: string } | undefined {
  if (!view.ownCoordinator) return view.record;
  const status = view.inside?.coordinator;
  const address = addressOf(view);
  if (status === undefined || address === undefined) return undefined;
  // The loopback first: the public address would need a router that turns packets around.
  return { urls: ["https://127.0.0.1:443", ...ownUrls([address])], publicKey: status.publicKey };
}

/** What the config should say of the coordinator in this container. */
export function recordOf(view: View): CoordinatorRecord | undefined {
  const status = view.inside?.coordinator;
  const address = addressOf(view);
  if (!view.ownCoordinator || status === undefined || address === undefined) return undefined;
  const urls = ownUrls([publicAddressOf(view), formerAddressOf(view), address]);
  return {
    urls,
    adminUrls: [...urls].reverse(),
    publicKey: status.publicKey,
    tlsFingerprint: status.tlsFingerprint,
  };
}

export function fileInputsOf(view: View): FileInputs | undefined {
  const address = addressOf(view);
  if (view.inside === undefined || address === undefined) return undefined;
  const plane = dataPlaneOf(view, view.inside);
  if (plane.kind !== "kernel" && plane.kind !== "userspace") return undefined;
  return {
    spec: view.spec,
    address,
    publicAddress: publicAddressOf(view),
    formerAddress: formerAddressOf(view),
    resolvers: view.inside.resolvers,
    dataPlane: plane.kind,
    ownCoordinator:
      view.ownCoordinator && view.adminTokenSha256 !== undefined
        ? { adminTokenSha256: view.adminTokenSha256 }
        : undefined,
    coordinator: coordinatorOf(view),
  };
}

/** The trouble of a container in which everything runs, and nothing comes in from outside. */
export const NO_INTERNET = "its container does not reach the Internet: no service that tells it its address answers";

/** The agent is in, connected, and the container reaches the Internet. */
export function unhealthy(inside: Inside): string | undefined {
  const unit = inside.units.get("exitnode-agent") ?? "unknown";
  if (unit !== "active") return `the agent's unit is ${unit}`;
  if (inside.agent === undefined) return "the agent does not answer";
  const { connected, reason, refusal } = inside.agent.coordinator;
  if (!connected) return `the agent is not connected to the coordinator: ${reason ?? refusal ?? "no reason given"}`;
  if (inside.agent.coordinator.mapSeq === undefined) return "the agent has no network map yet";
  if (inside.egress.ipv4 === undefined && inside.egress.ipv6 === undefined) return NO_INTERNET;
  return undefined;
}

import type { ContainerAction } from "../netconf/containerfiles.js";
import type { PveParams } from "../pve/guests.js";
import { type Identity, TAG, writeIdentity } from "./identity.js";
import { sysctlSettings } from "./inside.js";
import { formerAddressOf, publicAddressOf, type View } from "./view.js";

/** Something that is not as wanted, in words, with what puts it right. */
export type Difference = {
  readonly words: string;
  readonly change:
    | { readonly kind: "config"; readonly params: PveParams }
    | { readonly kind: "file"; readonly path: string }
    | { readonly kind: "action"; readonly action: ContainerAction };
};

/** Proxmox's config of the container. */
export function configDifferences(view: View): Difference[] {
  const { container, spec } = view;
  if (container === undefined) return [];
  const { config, identity } = container;
  const differences: Difference[] = [];
  const differ = (words: string, params: PveParams): void => {
    differences.push({ words, change: { kind: "config", params } });
  };
  if (config.cores !== spec.cores)
    differ(`cores is ${config.cores ?? "all"}, wanted ${spec.cores}`, { cores: spec.cores });
  if (config.memoryMib !== spec.memoryMib)
    differ(`memory is ${config.memoryMib} MiB, wanted ${spec.memoryMib} MiB`, { memory: spec.memoryMib });
  if (config.swapMib !== 0) differ(`swap is ${config.swapMib} MiB, wanted 0 MiB`, { swap: 0 });
  if (!config.onboot) differ("start at boot is off, wanted on", { onboot: true });
  if (config.hostname !== spec.name)
    differ(`hostname is ${config.hostname}, wanted ${spec.name}`, { hostname: spec.name });
  if (!config.tags.includes(TAG)) differ(`the tag ${TAG} is missing`, { tags: [...config.tags, TAG].sort().join(";") });
  const hostKey = view.hostKey ?? identity.hostKey;
  const publicAddress = view.ownCoordinator ? publicAddressOf(view) : identity.publicAddress;
  const wanted = {
    ...identity,
    given: spec.given,
    formerAddress: formerAddressOf(view),
    ...(hostKey === undefined ? {} : { hostKey }),
    ...(publicAddress === undefined ? {} : { publicAddress }),
  };
  const description = writeIdentity(config.description, wanted);
  if (description !== config.description) differ(identityWords(identity, wanted), { description });
  return differences;
}

function identityWords(is: Identity, wanted: Identity): string {
  if (is.hostKey !== wanted.hostKey) return "the description does not hold the SSH host key";
  if (is.publicAddress !== wanted.publicAddress)
    return `the public address in the description is ${is.publicAddress ?? "none"}, now ${wanted.publicAddress}`;
  if (is.formerAddress !== undefined && wanted.formerAddress === undefined)
    return `devices are told ${is.formerAddress} beside ${wanted.publicAddress}, which is enough now`;
  return "the description does not hold the options as given";
}

/** Files inside. */
export function fileDifferences(view: View): Difference[] {
  const { inside, files } = view;
  if (inside === undefined || files === undefined) return [];
  return files.flatMap((file): Difference[] => {
    const there = inside.files.get(file.path);
    const change = { kind: "file", path: file.path } as const;
    if (there === undefined) return [{ words: `${file.path} is missing`, change }];
    if (there.sha256 !== file.sha256) return [{ words: `${file.path} is different`, change }];
    const mode = file.mode.toString(8);
    if (there.mode !== file.mode || there.owner !== file.owner)
      return [
        { words: `${file.path} is ${there.owner} ${there.mode.toString(8)}, wanted ${file.owner} ${mode}`, change },
      ];
    return [];
  });
}

/** What runs inside, where it is not what the files say. */
export function runtimeDifferences(view: View): Difference[] {
  const { inside, files } = view;
  if (inside === undefined || files === undefined) return [];
  const differences: Difference[] = [];
  const differ = (words: string, action: ContainerAction): void => {
    differences.push({ words, change: { kind: "action", action } });
  };
  for (const [key, value] of wantedSysctl(files)) {
    const is = inside.sysctl.get(key);
    if (is !== undefined && is !== value)
      differ(`sysctl ${key.replaceAll("/", ".")} is ${is}, wanted ${value}`, "sysctl");
  }
  if (inside.nftMatches === false) differ("the nftables rules in force are not those of /etc/nftables.conf", "nft");
  const daemons = [
    ["exitnode-coordinator", "coordinator", view.ownCoordinator],
    ["exitnode-agent", "agent", files.some(({ path }) => path === "/etc/exitnode/agent.yaml")],
  ] as const;
  for (const [unit, action, wanted] of daemons) {
    const is = inside.units.get(unit) ?? "unknown";
    if (wanted && is !== "active") differ(`${unit}.service is ${is}, wanted active`, action);
  }
  return differences;
}

export function wantedSysctl(files: readonly { path: string; content: string | Uint8Array }[]): Map<string, string> {
  const file = files.find(({ path }) => path.startsWith("/etc/sysctl.d/"));
  return typeof file?.content === "string" ? sysctlSettings(file.content) : new Map();
}

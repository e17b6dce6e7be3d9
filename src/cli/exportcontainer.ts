import { createParams } from "../provision/containerparams.js";
import { type Identity, identityId, TAG, writeIdentity } from "../provision/identity.js";
import type { HostRequest } from "../provision/parts.js";
import { DEFAULTS } from "../provision/spec.js";
import type { OwnContainer, View } from "../provision/view.js";

/** A container in the words of the Proxmox API, whichever tool is to make it. */
export type ExportedContainer = {
  readonly name: string;
  readonly host: { readonly name: string; readonly url: string; readonly login: string };
  readonly node: string;
  /** Undefined when the next free one is meant. */
  readonly vmid: number | undefined;
  /** It is there already, made by `create` or by the tool. */
  readonly exists: boolean;
  readonly template: string;
  readonly cores: number;
  readonly memoryMib: number;
  readonly disk: { readonly storage: string; readonly gib: number };
  /** net0, split: name, bridge, tag, ip, gw, ip6, gw6. */
  readonly network: ReadonlyMap<string, string>;
  readonly pool: string | undefined;
  readonly tags: readonly string[];
  readonly description: string;
  readonly publicKey: string;
  /** dev0, when the container gets /dev/net/tun passed through. */
  readonly device: string | undefined;
};

export type Whereabouts = {
  readonly request: HostRequest;
  readonly url: string;
  readonly publicKey: string;
};

const ID_BYTES = 8;

/** As `create` would ask for it now. */
export function wantedContainer(
  view: View,
  { request, url, publicKey }: Whereabouts,
  random: (length: number) => Uint8Array,
): ExportedContainer {
  const { spec, placement } = view;
  if (placement === undefined) throw new Error("a container that is not there needs a place");
  // With our line in its description, `create` takes the container for its own and goes on inside.
  const identity: Identity = {
    id: identityId(random(ID_BYTES)),
    name: spec.name,
    given: spec.given,
    ...(view.ownCoordinator ? { coordinator: true } : {}),
  };
  const params = createParams({
    spec,
    defaults: request.defaults,
    placement,
    vmid: spec.given.vmid ?? 0,
    identity,
    publicKey,
    mayPassDevices: view.mayPassDevices,
  });
  const text = (name: string): string => String(params[name] ?? "");
  const [storage = "", gib = ""] = text("rootfs").split(":");
  return {
    name: spec.name,
    host: { name: request.hostName, url, login: request.login },
    node: placement.node,
    vmid: spec.given.vmid,
    exists: false,
    template: params.ostemplate,
    cores: spec.cores,
    memoryMib: spec.memoryMib,
    disk: { storage, gib: Number(gib) },
    network: pairs(text("net0")),
    pool: params.pool === undefined ? undefined : text("pool"),
    tags: [TAG],
    description: text("description"),
    publicKey,
    device: params.dev0 === undefined ? undefined : text("dev0"),
  };
}

/** As it is on the host. */
export function settledContainer(
  { vmid, node, identity, config }: OwnContainer,
  template: string,
  { request, url, publicKey }: Whereabouts,
): ExportedContainer {
  const rootfs = config.options.rootfs ?? "";
  const size = /(?:^|,)size=(\d+)G(?:,|$)/.exec(rootfs)?.[1];
  return {
    name: identity.name,
    host: { name: request.hostName, url, login: request.login },
    node,
    vmid,
    exists: true,
    template,
    cores: config.cores ?? DEFAULTS.cores,
    memoryMib: config.memoryMib,
    disk: { storage: rootfs.split(":")[0] ?? "", gib: Number(size ?? DEFAULTS.diskGib) },
    network: new Map([...pairs(config.options.net0 ?? "")].filter(([key]) => NETWORK_KEYS.has(key))),
    pool: identity.given.pool,
    tags: config.tags,
    description: writeIdentity("", identity),
    publicKey,
    device: config.options.dev0,
  };
}

/** Of a network card, what was chosen; Proxmox adds its MAC address and its kind. */
const NETWORK_KEYS: ReadonlySet<string> = new Set(["name", "bridge", "tag", "ip", "gw", "ip6", "gw6"]);

function pairs(text: string): Map<string, string> {
  return new Map(
    text.split(",").map((part): [string, string] => {
      const at = part.indexOf("=");
      return [part.slice(0, at), part.slice(at + 1)];
    }),
  );
}

/** net0 as the API and `pct` take it. */
export const networkOption = ({ network }: ExportedContainer): string =>
  [...network].map(([key, value]) => `${key}=${value}`).join(",");

/** What makes the container an exit node once it is there: the agent, its keys and its registration are no container options. */
export const nextCommand = ({ name, host }: ExportedContainer): string =>
  `exitnode create --host ${host.name} --name ${name}`;

import type { ContainerConfig, Guest, PveHost } from "../../pve/guests.js";
import { hostKeyFromTasks } from "../observe.js";
import type { HostDefaults } from "../spec.js";
import { waysAdvice } from "./dataplane.js";
import { type Finding, fine, stops } from "./finding.js";

/**
 * The container that new ones are cloned from: root passed /dev/net/tun to it once, and a clone keeps devices, so that
 * a token may make it. A clone also keeps network options, SSH host keys and who may log in.
 */
export type SourceFacts = {
  readonly vmid: number;
  readonly node: string | undefined;
  readonly config: ContainerConfig | undefined;
  /** From the log of the task that made it. */
  readonly hostKey: string | undefined;
  readonly storage: string | undefined;
  readonly bridge: string | undefined;
  readonly vlan: number | undefined;
};

/** Undefined when none is named, or another way to the device is open already. */
export async function lookAtSource(
  host: PveHost,
  wish: { readonly login: string; readonly shell: boolean; readonly options: HostDefaults },
  guests: readonly Guest[],
): Promise<SourceFacts | undefined> {
  const { tunSource, dataPlane } = wish.options;
  if (tunSource === undefined || dataPlane === "kernel" || wish.login === "root@pam" || wish.shell) return undefined;
  const node = guests.find(({ vmid }) => vmid === tunSource)?.node;
  const nothing = { vmid: tunSource, node, hostKey: undefined, storage: undefined, bridge: undefined, vlan: undefined };
  const config = node === undefined ? undefined : await host.config(node, tunSource);
  if (node === undefined || config === undefined) return { ...nothing, config: undefined };
  const net = new Map(
    (config.options.net0 ?? "").split(",").map((part): [string, string] => {
      const [key = "", ...value] = part.split("=");
      return [key, value.join("=")];
    }),
  );
  const tag = net.get("tag");
  return {
    ...nothing,
    config,
    hostKey: await hostKeyFromTasks(host, node, tunSource),
    storage: config.options.rootfs?.split(":")[0],
    bridge: net.get("bridge"),
    vlan: tag === undefined ? undefined : Number(tag),
  };
}

/** Options that a clone has from its source. */
const SETTLED = ["bridge", "vlan", "ip", "gateway", "ip6", "gateway6"] as const;
const NET_KEYS = { bridge: "bridge", vlan: "tag", ip: "ip", gateway: "gw", ip6: "ip6", gateway6: "gw6" } as const;

export function sourceFinding(source: SourceFacts, options: HostDefaults, node: string, hostName: string): Finding {
  const { vmid, config } = source;
  const name = "clone source";
  const stop = (code: string, what: string, advice = waysAdvice({ hostName, wanted: "userspace" })): Finding =>
    stops(name, code, what, { why: "its clones have /dev/net/tun without root", advice });
  if (config === undefined)
    return stop("source-missing", `there is no container ${vmid} to clone that this login may see`);
  if (source.node !== node)
    return stop(
      "source-elsewhere",
      `container ${vmid}, which is to be cloned, is on the PVE node ${source.node}, not on ${node}`,
    );
  if (!/^(?:path=)?\/dev\/net\/tun(?:,|$)/.test(config.options.dev0 ?? ""))
    return stop(
      "source-without-tun",
      `container ${vmid}, which is to be cloned, has no /dev/net/tun as dev0`,
      `on the Proxmox host, as root: pct set ${vmid} --dev0 /dev/net/tun,mode=0666`,
    );
  if (!config.unprivileged) return stop("source-privileged", `container ${vmid}, which is to be cloned, is privileged`);
  if (source.hostKey === undefined)
    return stop(
      "host-key-unknown",
      `the log of the task that made container ${vmid} cannot be read any more, so the SSH host key of its clones is not known`,
    );
  const net0 = (config.options.net0 ?? "").split(",");
  const other = SETTLED.find((option) => {
    const wanted = options[option];
    return wanted !== undefined && !net0.includes(`${NET_KEYS[option]}=${wanted}`);
  });
  if (other !== undefined)
    return stop(
      "option-fixed",
      `${other} is wanted as ${options[other]}, and a clone of container ${vmid} has ${config.options.net0 ?? "no network"}`,
      `on the Proxmox host, as root: pct set ${vmid} --net0 …\nor leave the option out`,
    );
  return fine(name, `container ${vmid}, with /dev/net/tun`);
}

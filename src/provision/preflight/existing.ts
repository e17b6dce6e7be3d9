import type { PveHost } from "../../pve/guests.js";
import type { OwnContainer } from "../view.js";
import { bootFinding } from "./boot.js";
import { advisory } from "./facts.js";
import type { Finding } from "./finding.js";
import { firewallFinding } from "./firewall.js";

/** What of Proxmox's side keeps an exit node that is there from working, now or after the host's next start. */
export async function judgeExisting(host: PveHost, hostName: string, own: readonly OwnContainer[]): Promise<Finding[]> {
  const guarded = own.filter(({ config }) => /firewall=1/.test(config.options.net0 ?? ""));
  const datacenterOn = guarded.length === 0 ? undefined : await advisory(host.firewallOn());
  const each = await Promise.all(
    own.map(async (container) => {
      const { vmid, node, config, identity } = container;
      const { name } = identity;
      const firewall = guarded.includes(container) ? await advisory(host.guestFirewall(node, vmid)) : undefined;
      return [
        firewallFinding({ vmid, name, node, net0: config.options.net0 ?? "", firewall, datacenterOn }),
        bootFinding({ vmid, name, onboot: config.onboot, startup: config.options.startup ?? "" }, hostName),
      ];
    }),
  );
  return each.flat();
}

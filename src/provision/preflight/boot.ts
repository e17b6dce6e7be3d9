import { type Finding, fine, warns } from "./finding.js";

/** A guest's place when the host starts: by `order`, and after all of those the ones without, by VMID. */
export type Booting = {
  readonly vmid: number;
  readonly name: string;
  readonly onboot: boolean;
  /** "order=1,up=30", as in the container's configuration. */
  readonly startup: string;
};

export function bootFinding({ vmid, name, onboot, startup }: Booting, hostName: string): Finding {
  const label = `start of "${name}"`;
  if (!onboot)
    return warns(label, `container ${vmid} does not start with the host`, {
      why: "after a power cut nobody would be there",
      advice: `exitnode create --host ${hostName} --name ${name}`,
    });
  const order = /(?:^|,)(?:order=)?(\d+)(?:,|$)/.exec(startup)?.[1];
  if (order === undefined) return fine(label, "with the host, after every guest that has a start order");
  return fine(label, `with the host, in place ${order}: a router or DHCP server that is a guest needs an earlier one`);
}

import { toHex, utf8 } from "../kit/bytes.js";
import type { Cidr } from "../kit/ip.js";
import { sha256 } from "../kit/sha256.js";

/**
 * What a device passes on between the tunnel and the networks it offers, as one nftables table: from the tunnel into
 * those networks and the answers back. Nothing else goes in, and nobody there begins anything in the tunnel.
 */
export type SubnetRouter = {
  readonly device: string;
  /** IPv4. */
  readonly subnets: readonly Cidr[];
  /** Whether those networks see this machine's address, so that they need no route back. */
  readonly masquerade: boolean;
};

export const SUBNETS_TABLE = "exitnode_subnets";
/** Postrouting does not see where a packet came in: this says it there. */
const MARK = "0x450001";

export const REMOVE_SUBNETS = `table inet ${SUBNETS_TABLE}
delete table inet ${SUBNETS_TABLE}
`;

/** The whole table, replaced at once (the first two lines make sure there is one to delete). */
export function renderSubnets(router: SubnetRouter): string {
  const { device, subnets, masquerade } = router;
  return `${REMOVE_SUBNETS}table inet ${SUBNETS_TABLE} {
  comment "${subnetsMark(router)}"
  set subnets {
    type ipv4_addr; flags interval; auto-merge
    elements = { ${[...subnets].sort().join(", ")} }
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname "${device}" oifname != "${device}" ip daddr @subnets ct mark set ${MARK} accept
    iifname "${device}" ct direction original drop
    oifname "${device}" ct direction original drop
  }
  chain clamp {
    type filter hook forward priority mangle; policy accept;
    iifname "${device}" tcp flags syn tcp option maxseg size set rt mtu
    oifname "${device}" tcp flags syn tcp option maxseg size set rt mtu
  }
${
  masquerade
    ? `  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    oifname != "${device}" ct mark ${MARK} masquerade
  }
`
    : ""
}}
`;
}

/** Whether what `nft list table` prints is the table wanted. */
export const isSubnets = (listing: string, router: SubnetRouter): boolean =>
  listing.includes(`comment "${subnetsMark(router)}"`);

/** Stands in the table as its comment: an equal mark is an equal table. Raise the number with the rules' text. */
const subnetsMark = ({ device, subnets, masquerade }: SubnetRouter): string =>
  `subnets 1: ${toHex(sha256(utf8(JSON.stringify([device, [...subnets].sort(), masquerade])))).slice(0, 32)}`;

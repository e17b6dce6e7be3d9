import type { Gateway } from "./internet.js";

/**
 * miniupnpd on a router: UPnP-IGD, NAT-PMP (RFC 6886) and PCP (RFC 6887), as home routers have them. It works in a
 * table of its own, so that another kind of NAT can be loaded while mappings last.
 */

/** NAT-PMP's and PCP's. */
export const NAT_PMP_PORT = 5351;
const IGD_PORT = 5000;

export function renderUpnp(gateway: Gateway): string {
  const { lan, wan, lanPrefix, wanAddress, publicAddresses } = gateway;
  return [
    `ext_ifname=${wan}`,
    // Without it the address of `wan` is judged, and behind a NAT, or without IPv4, nothing is mapped: as it should be.
    ...(publicAddresses === undefined ? [] : [`ext_ip=${wanAddress}`]),
    `listening_ip=${lan}`,
    `port=${IGD_PORT}`,
    "enable_natpmp=yes",
    "enable_upnp=yes",
    // Nobody may open a port to somebody else.
    "secure_mode=yes",
    // Short enough for a test to see a lease end, long enough for a client to renew.
    "min_lifetime=2",
    "max_lifetime=86400",
    "friendly_name=home router",
    "uuid=5b1bd8a4-3d58-4e5c-9c04-77c6f1d0a2e7",
    "upnp_table_name=upnp",
    "upnp_nat_table_name=upnp",
    "upnp_forward_chain=allowed",
    "upnp_nat_chain=mapped",
    "upnp_nat_postrouting_chain=mapped-out",
    `allow 1024-65535 ${lanPrefix} 1024-65535`,
    "deny 0-65535 0.0.0.0/0 0-65535",
  ]
    .map((line) => `${line}\n`)
    .join("");
}

/** A forwarded packet is let in by the router's own rule for what was translated: `allowed` is only written to. */
export const UPNP_TABLE = `table inet upnp
delete table inet upnp
table inet upnp {
  chain prerouting {
    type nat hook prerouting priority dstnat - 1; policy accept;
    jump mapped
  }
  chain postrouting {
    type nat hook postrouting priority srcnat - 1; policy accept;
    jump mapped-out
  }
  chain forward {
    type filter hook forward priority filter - 1; policy accept;
    jump allowed
  }
  chain mapped {
  }
  chain mapped-out {
  }
  chain allowed {
  }
}
`;

export const NO_UPNP_TABLE = "table inet upnp\ndelete table inet upnp\n";

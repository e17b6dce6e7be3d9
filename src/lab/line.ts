import { MUTE_TOO_BIG, rules } from "./firewall.js";
import type { Provider } from "./internet.js";

/**
 * What a provider does to its customer's line, as nftables: loss, silence, and a NAT of its own. One table, replaced
 * whole. Everything here happens without a word to either end, as it does on a real line.
 */

/** Where people are, in contrast to servers: the networks behind the providers and the mobile network's carrier. */
const HOMES = "{ 198.51.100.0/24, 203.0.113.0/24, 128.66.77.0/24, 192.0.2.128/27 }";
const HOMES6 = "{ 2001:db8:77::/48, 2001:db8:88::/48, 2001:db8:99::/48, 2001:db8:ff77::/64, 2001:db8:ff88::/64 }";

export function renderLine(provider: Provider): string {
  const { line, carrier, muteTooBig } = provider;
  return `table inet line
delete table inet line
table inet line {
  chain from-customer {
    type filter hook prerouting priority raw; policy accept;
${rules(onLine(provider).map((fate) => `iifname "${line}" ${fate}`))}  }
  chain to-customer {
    type filter hook postrouting priority mangle; policy accept;
${rules(onLine(provider).map((fate) => `oifname "${line}" ${fate}`))}  }
  chain forward {
    type filter hook forward priority filter; policy accept;
${rules(provider.state === "direct-cut" ? DIRECT_CUT : [])}  }
${muteTooBig === true ? MUTE_TOO_BIG : ""}${carrier === undefined ? "" : renderCarrier(carrier)}}
`;
}

const DIRECT_CUT = [
  `meta l4proto udp ip saddr ${HOMES} ip daddr ${HOMES} drop`,
  `meta l4proto udp ip6 saddr ${HOMES6} ip6 daddr ${HOMES6} drop`,
];

/** nftables counts whole numbers: a percentage is so many of ten thousand. */
function onLine({ state, lossPercent }: Provider): string[] {
  if (state === "down") return ["drop"];
  return lossPercent === 0 ? [] : [`numgen random mod 10000 < ${Math.round(lossPercent * 100)} drop`];
}

/**
 * An ordinary NAT once more (RFC 6888 names what is asked of one). What was not asked for is dropped before it is
 * routed: nobody has the shared address, and a refusal would be an answer.
 */
function renderCarrier({ inside, address, device }: NonNullable<Provider["carrier"]>): string {
  return `  chain shared {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "${device}" ip saddr ${inside} snat ip to ${address}
  }
  chain unasked {
    type filter hook prerouting priority filter; policy accept;
    ip daddr ${address} drop
  }
`;
}

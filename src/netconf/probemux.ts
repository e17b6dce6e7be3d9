import { PROBE_MAGIC, STUN_COOKIE } from "../kit/datagramkind.js";
import { isTable, type NftTable, readTable, renderTable } from "./nfttable.js";

/**
 * Kernel WireGuard and a socket of ours on one UDP port, by rewriting the ports of single packets; NAT would take
 * whole flows, and probes and WireGuard's messages come from the same address and port. Connection tracking, where a
 * firewall uses it, sees only the packets as they are on the wire: one flow, so that a firewall which lets in answers
 * alone lets in those to probes, and WireGuard's wherever probes have been.
 */
export type ProbeMux = { readonly listenPort: number; readonly probePort: number };

export const PROBE_MUX_TABLE = "exitnode_mux";
const PORT_MAX = 65_535;

/** The exit node's firewall lets the neighbour of WireGuard's port in, and no other. */
export const probePortOf = (listenPort: number): number => (listenPort === PORT_MAX ? PORT_MAX - 1 : listenPort + 1);

function muxTable({ listenPort, probePort }: ProbeMux): NftTable {
  // Protocols by number: names are looked up in /etc/protocols, which a small system does not have.
  // Only what is for this machine: a packet on its way through, from a device behind it, keeps its port.
  // The payload begins 64 bits into what nftables calls the transport header: datagramKind() in nftables' words.
  // Nobody reaches the socket at its own port, as nobody could if it were WireGuard's.
  // Connection tracking looks between raw and mangle: after that on the way in, before that on the way out.
  return {
    name: PROBE_MUX_TABLE,
    chains: [
      {
        name: "inward",
        hook: "filter hook prerouting priority mangle",
        rules: [
          "meta l4proto != 17 accept",
          "fib daddr type != local accept",
          `udp dport ${probePort} drop`,
          `udp dport != ${listenPort} accept`,
          "udp length < 16 accept",
          `@th,64,32 ${hex(PROBE_MAGIC)} udp dport set ${probePort}`,
          `@th,64,16 { 0x0101, 0x0111 } @th,96,32 ${hex(STUN_COOKIE)} udp dport set ${probePort}`,
        ],
      },
      {
        name: "outward",
        hook: "filter hook output priority raw",
        rules: [`oifname != "lo" udp sport ${probePort} udp sport set ${listenPort}`],
      },
    ],
  };
}

/** The whole table, replaced at once. */
export const renderProbeMux = (mux: ProbeMux): string => renderTable(muxTable(mux));

/** Whether what `nft list table` prints is the table wanted. */
export const isProbeMux = (listing: string, mux: ProbeMux): boolean => isTable(muxTable(mux), readTable(listing));

/** Removes the table, whether it is there or not. */
export const REMOVE_PROBE_MUX = `table inet ${PROBE_MUX_TABLE}
delete table inet ${PROBE_MUX_TABLE}
`;

const hex = (word: number): string => `0x${word.toString(16)}`;

import type { Tun } from "../sys/tun.js";
import type { UdpPair } from "../sys/udp.js";

/** What makes the engine fast and may be missing. Each can be done without; `status` then says what it costs. */
export const OFFLOADS = {
  accelerator: "the compiled accelerator is missing: encryption takes twice as long",
  wasm: "WebAssembly has no vector instructions here: checksums take ten times as long, encryption without accelerator five",
  tso: "this kernel's TUN device does not take TCP in pieces: downloads and uploads are several times slower",
  uso: "this kernel's TUN device does not take UDP in pieces (Linux 6.2 does): UDP is slower",
  cuts: "this kernel or network card does not cut UDP datagrams (UDP_SEGMENT): sending is several times slower",
  joins: "this kernel does not join UDP datagrams (UDP_GRO): receiving is several times slower",
} as const;
export type Offload = keyof typeof OFFLOADS;

export function missingOf(tun: Tun, { ip4, ip6 }: UdpPair): Set<Offload> {
  const missing = new Set<Offload>();
  if (!tun.tso) missing.add("tso");
  if (!tun.uso) missing.add("uso");
  for (const socket of [ip4, ip6]) {
    if (socket?.cuts === false) missing.add("cuts");
    if (socket?.joins === false) missing.add("joins");
  }
  return missing;
}
